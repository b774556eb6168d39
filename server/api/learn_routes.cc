#include "api/learn_routes.h"

namespace sundog::api {
namespace {

constexpr int64_t kLongestWait = 30;

Result<learn::NewRun> new_run(const Json& body) {
  learn::NewRun run;
  SUNDOG_TRY(function, get_string(body, "function"));
  SUNDOG_TRY(name, get_string(body, "name", ""));
  SUNDOG_TRY(qualifier, get_string(body, "qualifier", ""));
  SUNDOG_TRY(dataset, get_string(body, "dataset", ""));
  SUNDOG_TRY(study, get_string(body, "study", ""));
  run.function = std::move(function);
  run.name = std::move(name);
  run.qualifier = std::move(qualifier);
  run.dataset = std::move(dataset);
  run.study = std::move(study);
  run.parameters = body.value("parameters", Json::object());
  if (!run.parameters.is_object()) return fail(Code::invalid_argument, "\"parameters\" is an object");
  return run;
}

// Holds no thread while it waits.
void wait_for_run(learn::Runs& runs, const std::shared_ptr<Call>& call) {
  const auto wait = call->query_int("wait", 0);
  const auto after = call->query_int("metrics_after", -1);
  for (const auto* number : {&wait, &after}) {
    if (!number->ok()) {
      reply_error(*call->responder, number->error(), ErrorShape::sundog);
      return;
    }
  }
  const Millis limit{std::clamp<int64_t>(*wait, 0, kLongestWait) * 1000};
  runs.wait(call->principal.tenant, call->param("id"), *after, limit, [call](Result<Json> run) {
    if (run.ok()) {
      reply(*call->responder, 200, *run);
    } else {
      reply_error(*call->responder, run.error(), ErrorShape::sundog);
    }
  });
}

void add_study_routes(Router& router, learn::Studies& studies) {
  router.json("POST", "/v1/studies", Role::deployer, [&](const std::shared_ptr<Call>& call) -> Result<Json> {
    SUNDOG_TRY(body, call->json());
    return studies.create(call->principal.tenant, body);
  });
  router.json("GET", "/v1/studies", Role::viewer, [&](const std::shared_ptr<Call>& call) -> Result<Json> {
    SUNDOG_TRY(asked, call->list_query());
    return studies.list(call->principal.tenant, asked.after, asked.limit);
  });
  router.json("GET", "/v1/studies/{name}", Role::viewer, [&](const std::shared_ptr<Call>& call) {
    return studies.get(call->principal.tenant, call->param("name"));
  });
  router.json(
      "POST", "/v1/studies/{name}/trials", Role::deployer,
      [&](const std::shared_ptr<Call>& call) -> Result<Json> {
        SUNDOG_TRY(body, call->json());
        return studies.add_trial(call->principal.tenant, call->param("name"), body);
      },
      {}, 202);
  router.json("PUT", "/v1/studies/{name}/trials/{number}", Role::deployer,
              [&](const std::shared_ptr<Call>& call) -> Result<Json> {
                SUNDOG_TRY(body, call->json());
                SUNDOG_TRY(number, parse_json(call->param("number"), "the trial's number"));
                if (!number.is_number_integer()) {
                  return fail(Code::invalid_argument, "A trial's number is an integer, not " + call->param("number"));
                }
                return studies.set_trial(call->principal.tenant, call->param("name"), number, body);
              });
}

}  // namespace

void add_learn_routes(Router& router, learn::Runs& runs, learn::Studies& studies) {
  router.json(
      "POST", "/v1/runs", Role::deployer,
      [&](const std::shared_ptr<Call>& call) -> Result<Json> {
        SUNDOG_TRY(body, call->json());
        SUNDOG_TRY(run, new_run(body));
        return runs.create(call->principal.tenant, std::move(run));
      },
      {}, 202);
  router.json("GET", "/v1/runs", Role::viewer, [&](const std::shared_ptr<Call>& call) -> Result<Json> {
    SUNDOG_TRY(asked, call->list_query());
    SUNDOG_TRY(page, runs.list(call->principal.tenant, std::string(call->query("study")), asked.after, asked.limit));
    return Json{{"items", page.items}, {"next", page.next}};
  });
  router.add("GET", "/v1/runs/{id}", Role::viewer,
             [&](const std::shared_ptr<Call>& call) { wait_for_run(runs, call); });
  router.json("POST", "/v1/runs/{id}/stop", Role::deployer, [&](const std::shared_ptr<Call>& call) {
    return runs.stop_run(call->principal.tenant, call->param("id"));
  });
  add_study_routes(router, studies);
}

}  // namespace sundog::api
