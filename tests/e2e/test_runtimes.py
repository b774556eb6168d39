"""Custom runtimes through boto3: a bootstrap in shell, one in C++, and AWS's own awslambdaric, unmodified."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness import Server, eventually

Make = Callable[..., str]

# Lambda's Runtime API with nothing but bash: GET next, answer with what `answer` prints, and again.
SHELL = r"""#!/bin/bash
echo "init of $_HANDLER"
host=${AWS_LAMBDA_RUNTIME_API%:*} port=${AWS_LAMBDA_RUNTIME_API#*:}
root=/2018-06-01/runtime/invocation
request() {  # METHOD PATH BODY: the answer's body; its request id in $id
    local line length=0
    exec 4<>"/dev/tcp/$host/$port"
    printf '%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' "$1" "$2" "${#3}" "$3" >&4
    while IFS= read -r line <&4 && [ "$line" != $'\r' ]; do
        line=${line%$'\r'}
        case $line in
            Lambda-Runtime-Aws-Request-Id:*) id=${line#*: } ;;
            Content-Length:*) length=${line#*: } ;;
        esac
    done
    body=
    [ "$length" -gt 0 ] && IFS= read -r -N "$length" body <&4
    exec 4>&-
}
. ./answer.sh
while true; do
    request GET $root/next ""
    event=$body
    answer
done
"""
ECHO = """
answer() {
    echo "event of $id"
    request POST $root/$id/response "{\\"event\\":$event,\\"root\\":\\"$LAMBDA_TASK_ROOT\\",\\"pid\\":$$}"
}
"""


def zipped(files: dict[str, str | bytes], executable: tuple[str, ...] = ("bootstrap",)) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(entry, content)
    return memory.getvalue()


@pytest.fixture
def make(server: Server) -> Iterator[Make]:
    """Deploys a package with a custom runtime and gives the function's name once it is active."""
    client = server.boto3()
    made: list[str] = []

    def create(package: bytes, **settings: Any) -> str:
        settings = {"Runtime": "provided.al2023", "Timeout": 10, **settings}
        made.append(server.deploy(package, wait=True, **settings))
        return made[-1]

    yield create
    for name in made:
        client.delete_function(FunctionName=name)


@pytest.fixture
def call(server: Server) -> Callable[..., tuple[dict[str, Any], Any]]:
    client = server.boto3()

    def invoke(name: str, event: Any = None, **more: Any) -> tuple[dict[str, Any], Any]:
        response = client.invoke(FunctionName=name, Payload=json.dumps(event).encode(), LogType="Tail", **more)
        return response, json.loads(response["Payload"].read())

    return invoke


def tail_of(response: dict[str, Any]) -> str:
    return base64.b64decode(response["LogResult"]).decode()


def test_a_shell_bootstrap(server: Server, make: Make, call: Callable[..., Any]) -> None:
    name = make(zipped({"bootstrap": SHELL, "answer.sh": ECHO}))
    response, first = call(name, {"n": 1})
    assert first["event"] == {"n": 1}
    assert first["root"] == "/var/task"
    assert "FunctionError" not in response
    tail = tail_of(response)
    assert f"event of {response['ResponseMetadata']['RequestId']}" in tail
    report = re.search(r"Init Duration: ([0-9.]+) ms", tail)
    assert report and float(report[1]) > 0, tail
    again, second = call(name, "x" * 100_000)
    assert second["event"] == "x" * 100_000
    assert second["pid"] == first["pid"], "the instance is used again"
    assert "Init Duration" not in tail_of(again)
    lines = [line.text for line in server.cloud().functions.get(name).logs()]
    assert any("init of app.handler" in line for line in lines), lines


def test_its_usage_is_booked_like_any_other(server: Server, make: Make, call: Callable[..., Any]) -> None:
    name = make(zipped({"bootstrap": SHELL, "answer.sh": ECHO}), MemorySize=256)
    call(name)
    call(name)
    with server.http() as http:
        records = [r for r in http.get("/v1/usage").json()["items"] if r["function"] == name]
    assert [r["outcome"] for r in records] == ["ok", "ok"]
    assert records[0]["init_ms"] > 0
    assert records[1]["init_ms"] == 0
    assert all(r["memory_mb"] == 256 and r["billed_ms"] >= r["handler_ms"] > 0 for r in records)
    assert records[0]["peak_memory_mb"] > 0 or os.geteuid() != 0


CPP = r"""
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <string>

static std::string read_answer(int fd) {
  std::string text;
  size_t head, length = 0;
  char buffer[65536];
  while (true) {
    head = text.find("\r\n\r\n");
    if (head != text.npos) {
      length = std::strtoul(text.c_str() + text.find("Content-Length: ") + 16, nullptr, 10);
      if (text.size() >= head + 4 + length) return text;
    }
    const ssize_t bytes = read(fd, buffer, sizeof buffer);
    if (bytes <= 0) std::exit(9);
    text.append(buffer, bytes);
  }
}

int main() {
  const std::string api = std::getenv("AWS_LAMBDA_RUNTIME_API");
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(std::stoi(api.substr(api.find(':') + 1)));
  inet_pton(AF_INET, api.substr(0, api.find(':')).c_str(), &to.sin_addr);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return 8;
  const auto say = [fd](const std::string& text) { return write(fd, text.data(), text.size()) == ssize_t(text.size()); };
  while (true) {
    say("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n");
    const std::string event = read_answer(fd);
    const std::string key = "Lambda-Runtime-Aws-Request-Id: ";
    const size_t at = event.find(key) + key.size();
    const std::string id = event.substr(at, event.find('\r', at) - at);
    const std::string payload = event.substr(event.find("\r\n\r\n") + 4);
    if (payload == "\"exit\"") std::exit(5);
    if (payload == "\"abort\"") std::abort();
    if (payload == "\"memory\"") {
      const size_t bytes = size_t{1} << 30;
      char* block = static_cast<char*>(std::malloc(bytes));
      for (size_t i = 0; i < bytes; i += 4096) block[i] = 1;
    }
    if (payload == "\"sleep\"") pause();
    const std::string answer = payload == "\"large\"" ? std::string(7 << 20, ' ') : "{\"you_said\":" + payload + "}";
    std::string mode = payload == "\"stream\"" ? "Lambda-Runtime-Function-Response-Mode: streaming\r\n" : "";
    say("POST /2018-06-01/runtime/invocation/" + id + "/response HTTP/1.1\r\nHost: x\r\n" + mode +
        "Content-Length: " + std::to_string(answer.size()) + "\r\n\r\n" + answer);
    read_answer(fd);
  }
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bootstrap in C++: one static program."""
    folder = tmp_path_factory.mktemp("bootstrap")
    (folder / "bootstrap.cc").write_text(CPP)
    compiler = shutil.which("clang++-19") or shutil.which("clang++") or shutil.which("g++")
    assert compiler, "a C++ compiler is among what ./dev setup installs"
    program = folder / "bootstrap"
    subprocess.run([compiler, "-std=c++20", "-static", "-o", program, folder / "bootstrap.cc"], check=True, timeout=120)
    return program.read_bytes()


def test_a_bootstrap_in_cpp(make: Make, call: Callable[..., Any], compiled: bytes) -> None:
    name = make(zipped({"bootstrap": compiled}), Runtime="provided.al2", Timeout=2, MemorySize=128)
    assert call(name, [1, 2])[1] == {"you_said": [1, 2]}
    failures = {
        "exit": ("Runtime.ExitError", "Runtime exited with error: exit status 5"),
        "abort": ("Runtime.ExitError", "Runtime exited with error: signal: aborted"),
        "sleep": ("Sandbox.Timedout", "Task timed out after 2.00 seconds"),
        "large": ("Function.ResponseSizeTooLarge", "exceeded maximum allowed payload size (6291556 bytes)"),
    }
    if os.geteuid() == 0:
        failures["memory"] = ("Runtime.OutOfMemory", "memory size 128 MB")
    for event, (kind, words) in failures.items():
        response, answer = call(name, event)
        assert response["FunctionError"] == "Unhandled"
        assert answer["errorType"] == kind, answer
        assert words in answer["errorMessage"]
        assert call(name, event + "?")[1] == {"you_said": event + "?"}, "the next call works"


HANDLER = """
import os
state = {"calls": 0}

def handler(event, context):
    state["calls"] += 1
    print("call", state["calls"])
    if event == "raise":
        raise ValueError("as asked")
    if event == "exit":
        os._exit(4)
    if event == "large":
        return "x" * 7_000_000
    return {
        "event": event, "calls": state["calls"], "id": context.aws_request_id, "name": context.function_name,
        "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
        "left": context.get_remaining_time_in_millis(), "custom": getattr(context.client_context, "custom", None),
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
    }
"""


@pytest.fixture(scope="module")
def ric(server: Server) -> str:
    """The environment with AWS's own runtime interface client; the ARN of its layer."""
    from sundog import Environment

    return server.cloud().environments.ensure(Environment("awslambdaric==4.2.*", python="3.11")).layer


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the environment is made for Python 3.11")
def test_awslambdaric_as_it_is(make: Make, call: Callable[..., Any], ric: str) -> None:
    script = '#!/bin/sh\nexec python3.11 -m awslambdaric "$_HANDLER"\n'
    name = make(zipped({"bootstrap": script, "app.py": HANDLER}), Layers=[ric], MemorySize=256)
    context = base64.b64encode(b'{"custom": {"a": "b"}}').decode()
    response, answer = call(name, {"x": [1, "é"]}, ClientContext=context)
    assert answer["event"] == {"x": [1, "é"]}
    assert answer["id"] == response["ResponseMetadata"]["RequestId"]
    assert (answer["name"], answer["memory"]) == (name, "256")
    assert answer["arn"].endswith(f":function:{name}")
    assert 0 < answer["left"] <= 10_000
    assert answer["custom"] == {"a": "b"}
    assert answer["trace"].startswith("Root=1-")
    assert "call 1" in tail_of(response)

    response, raised = call(name, "raise")
    assert response["FunctionError"] == "Unhandled"
    assert (raised["errorType"], raised["errorMessage"]) == ("ValueError", "as asked")
    assert any("as asked" in line for line in raised["stackTrace"])
    assert call(name)[1]["calls"] == 3, "the same process goes on after an exception"

    response, ended = call(name, "exit")
    assert ended["errorType"] == "Runtime.ExitError"
    assert "exit status 4" in ended["errorMessage"]
    assert call(name)[1]["calls"] == 1
    # awslambdaric ends its process when an answer is refused.
    assert call(name, "large")[1]["errorType"] == "Function.ResponseSizeTooLarge"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the environment is made for Python 3.11")
def test_awslambdaric_s_init_error(make: Make, call: Callable[..., Any], ric: str) -> None:
    script = '#!/bin/sh\nexec python3.11 -m awslambdaric "$_HANDLER"\n'
    name = make(zipped({"bootstrap": script, "app.py": "import nothing_of_that_name"}), Layers=[ric], MemorySize=256)
    response, answer = call(name)
    assert response["FunctionError"] == "Unhandled"
    assert answer["errorType"] == "Runtime.ImportModuleError"
    assert "nothing_of_that_name" in answer["errorMessage"]


@pytest.mark.parametrize(
    ("files", "executable", "kind", "words"),
    [
        ({"other": "x"}, (), "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap]"),
        ({"bootstrap": SHELL}, (), "Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s)"),
        ({"bootstrap": "no program"}, ("bootstrap",), "Runtime.InvalidEntrypoint", "exec format error"),
        ({"bootstrap": "#!/bin/sh\necho last words\nexit 3\n"}, ("bootstrap",), "Runtime.ExitError", "exit status 3"),
        ({"bootstrap": "#!/bin/sh\nexit 0\n"}, ("bootstrap",), "Runtime.ExitError", "without providing a reason"),
    ],
)
def test_a_bootstrap_that_cannot_begin(
    server: Server,
    make: Make,
    call: Callable[..., Any],
    files: dict[str, str | bytes],
    executable: tuple[str, ...],
    kind: str,
    words: str,
) -> None:
    name = make(zipped(files, executable))
    response, answer = call(name)
    assert response["FunctionError"] == "Unhandled"
    assert answer["errorType"] == kind
    assert words in answer["errorMessage"]
    lines = [line.text for line in server.cloud().functions.get(name).logs()]
    assert any(kind in line for line in lines), lines
    if "last words" in str(files.get("bootstrap")):
        assert any("last words" in line for line in lines), lines


def test_the_host_s_network_is_refused(make: Make) -> None:
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError, match="custom runtime cannot have the host's network"):
        make(zipped({"bootstrap": SHELL, "answer.sh": ECHO}), Tags={"sundog:network": "host"})


def test_calls_at_the_same_time_have_instances_of_their_own(server: Server, make: Make) -> None:
    """Both wait for their deadline, so that each must have its own instance; what they started ends with them."""
    waits = "answer() {\n    sleep 600 &\n    wait\n}\n"
    name = make(zipped({"bootstrap": SHELL, "answer.sh": waits}), Timeout=3)
    with server.http() as http, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(server.boto3().invoke, FunctionName=name, Payload=b"1") for _ in range(2)]

        def mine() -> list[dict[str, Any]]:
            return [i for i in http.get("/v1/fleet").json()["instances"] if i["function"] == name]

        eventually(lambda: [i["state"] for i in mine()] == ["busy", "busy"], what="two busy instances")
        pids = [i["pid"] for i in mine()]
        for answer in calls:
            assert json.loads(answer.result()["Payload"].read())["errorType"] == "Sandbox.Timedout"
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), what="the end of both")


def test_wrong_answers_and_garbage_hurt_nobody(make: Make, call: Callable[..., Any]) -> None:
    """Ids of nobody, paths of nothing, bytes that are no HTTP, a connection left half-way: then the right answer."""
    odd = """
answer() {
    request POST $root/00000000-0000-4000-8000-000000000000/response '"of nobody"'
    wrong=$body
    request GET /2018-06-01/runtime/nothing ""
    exec 5<>"/dev/tcp/$host/$port"
    printf 'POST %s/%s/response HTTP/1.1\\r\\nContent-Length: 100\\r\\n\\r\\nhalf' "$root" "$id" >&5
    exec 5>&-
    exec 5<>"/dev/tcp/$host/$port"
    printf '\\x00\\xff garbage\\r\\n\\r\\n' >&5
    IFS= read -r status <&5
    exec 5>&-
    request POST $root/$id/response "{\\"wrong\\":$wrong,\\"garbage\\":\\"${status%$'\\r'}\\"}"
}
"""
    name = make(zipped({"bootstrap": SHELL, "answer.sh": odd}))
    for _ in range(2):
        answer = call(name)[1]
        assert answer["wrong"] == {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}
        assert answer["garbage"] == "HTTP/1.1 400 Bad Request"


@pytest.mark.skipif(os.geteuid() != 0, reason="the pid that the fleet shows is the host's where the server is root")
def test_killed_from_outside_it_is_reported_and_replaced(server: Server, make: Make) -> None:
    waits = 'answer() {\n    [ "$event" = \'"wait"\' ] && sleep 600\n    request POST $root/$id/response 1\n}\n'
    name = make(zipped({"bootstrap": SHELL, "answer.sh": waits}), Timeout=60)
    client = server.boto3()
    with server.http() as http, ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.invoke, FunctionName=name, Payload=b'"wait"')

        def busy() -> list[int]:
            found = http.get("/v1/fleet").json()["instances"]
            return [i["pid"] for i in found if i["function"] == name and i["state"] == "busy"]

        (pid,) = eventually(busy, what="the busy instance")
        os.kill(pid, signal.SIGKILL)
        answer = json.loads(running.result()["Payload"].read())
        assert answer["errorType"] == "Runtime.ExitError"
        assert "signal: killed" in answer["errorMessage"]
    assert json.loads(client.invoke(FunctionName=name, Payload=b"2")["Payload"].read()) == 1


@pytest.mark.soak
def test_a_bootstrap_that_never_asks_is_timed_out(fresh_server: Callable[..., Server]) -> None:
    """Lambda's ten seconds of init, waited out; runtime_api_test has the same with thirty milliseconds."""
    server = fresh_server("--queue-limit", "60").start()
    client = server.boto3()
    never = server.deploy(zipped({"bootstrap": "#!/bin/sh\nsleep 600\n"}), wait=True, Runtime="provided.al2023")
    answer = json.loads(client.invoke(FunctionName=never, Payload=b"1")["Payload"].read())
    assert answer["errorType"] == "Sandbox.Timedout"
    assert answer["errorMessage"] == "Init timed out after 10.00 seconds"
    server.stop()
