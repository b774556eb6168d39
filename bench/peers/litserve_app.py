"""The same model behind LitServe, one worker."""

import sys

import litserve


class Api(litserve.LitAPI):
    def setup(self, device):
        from app import answer

        self.answer = answer

    def decode_request(self, request):
        return request["row"]

    def predict(self, x):
        return self.answer(x)

    def encode_response(self, output):
        return {"p": output}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
