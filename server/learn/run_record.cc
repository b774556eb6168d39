#include "learn/run_record.h"

#include <fmt/format.h>

namespace sundog::learn {

std::string run_key(const std::string& tenant, const std::string& id) {
  return "runs/" + tenant + "/" + id;
}

std::string point_prefix(const std::string& tenant, const std::string& run) {
  return "points/" + tenant + "/" + run + "/";
}

std::string point_key(const std::string& tenant, const std::string& run, int64_t n) {
  return point_prefix(tenant, run) + fmt::format("{:09d}", n);
}

bool is_over(const Json& run) {
  const auto state = run.value("state", "");
  return state != kQueued && state != kRunning;
}

Json shown(const Json& run) {
  Json out = run;
  for (const char* internal : {"request_id", "accepted", "stop_requested", "signature", "qualifier"}) {
    out.erase(internal);
  }
  return out;
}

Json error_json(const Error& error) {
  return {{"code", name(error.code)}, {"message", error.message}, {"hint", error.hint}};
}

namespace {

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string hint_for(const std::string& type) {
  if (type == "Sandbox.Timedout" || type.find("Timeout") != std::string::npos) {
    return "Give the function more time, or call run.checkpoint() so that the next attempt goes on where this one "
           "ended.";
  }
  if (type == "Runtime.OutOfMemory") return "Give the function more memory, or preprocess with a smaller fit_in.";
  return "The function's log holds the whole traceback.";
}

void succeed(Json& run, const Json& answer) {
  run["state"] = "succeeded";
  run["artefact"] = answer.value("artefact", Json());
  if (const auto signature = answer.find("signature"); signature != answer.end() && signature->is_object()) {
    run["signature"] = *signature;
  }
}

bool is_artefact(const Json& answer) {
  const auto artefact = answer.find("artefact");
  if (artefact == answer.end() || artefact->is_null()) return true;
  return artefact->is_object() && store::is_blob_id(text_of(*artefact, "blob")) &&
         !text_of(*artefact, "format").empty();
}

// Else a function could make another tenant's blob its own by naming it.
bool names_only(const Json& answer, const std::set<std::string>& granted) {
  const auto artefact = answer.find("artefact");
  return artefact == answer.end() || artefact->is_null() || granted.contains(text_of(*artefact, "blob"));
}

void apply_answer(Json& run, const invoke::InvokeResult& result) {
  const auto parsed = parse_json(result.payload, "the training function's answer");
  if (!parsed.ok() || !parsed->is_object() || !is_artefact(*parsed)) {
    run["state"] = "failed";
    run["error"] = error_json(fail(Code::invalid_argument, "The training function's answer is not a run's result",
                                   "Deploy it with @app.training; its handler is sundog.runtime.training.handler."));
    return;
  }
  const Json& answer = *parsed;
  if (!names_only(answer, result.granted_blobs)) {
    run["state"] = "failed";
    run["error"] = error_json(fail(Code::permission_denied,
                                   "The training function answered with a blob that this run did not write",
                                   "Return the model; the runtime writes it."));
    return;
  }
  if (const auto metrics = answer.find("metrics"); metrics != answer.end() && metrics->is_object()) {
    for (const auto& [key, value] : metrics->items()) {
      if (value.is_number()) run["metrics"][key] = value;
    }
  }
  if (const auto error = answer.find("error"); error != answer.end() && error->is_object()) {
    run["state"] = "failed";
    run["error"] = function_error_json(*error);
  } else if (answer.value("stopped", Json(false)) == Json(true)) {
    run["state"] = "stopped";
  } else {
    succeed(run, answer);
  }
}

}  // namespace

Json function_error_json(const Json& failure) {
  const auto type = text_of(failure, "errorType");
  auto message = text_of(failure, "errorMessage");
  if (message.empty()) message = "The training function failed without saying why";
  return {{"code", name(Code::invalid_argument)},
          {"type", type},
          {"message", type.empty() ? message : type + ": " + message},
          {"hint", hint_for(type)},
          {"stack", failure.value("stackTrace", Json::array())}};
}

bool begin_attempt(Json& run, WallTime now) {
  if (is_over(run) || run.value("stop_requested", false)) return false;
  run["state"] = kRunning;
  run["attempt"] = run.value("attempt", int64_t{0}) + 1;
  if (run.value("started", Json()).is_null()) run["started"] = iso_time(now);
  return true;
}

void end_run(Json& run, const Result<invoke::InvokeResult>& result, const Json& logged_metrics, WallTime now) {
  if (is_over(run)) return;
  if (!run["metrics"].is_object()) run["metrics"] = Json::object();
  run["metrics"].update(logged_metrics);
  if (!result.ok()) {
    run["state"] = "failed";
    run["error"] = error_json(result.error());
  } else if (!result->function_error.empty()) {
    run["state"] = "failed";
    const auto failure = parse_json(result->payload, "the function's error");
    run["error"] = function_error_json(failure.ok() && failure->is_object() ? *failure : Json::object());
  } else {
    apply_answer(run, *result);
  }
  if (run.value("stop_requested", false) && run["state"] == "failed") run["state"] = "stopped";
  run["ended"] = iso_time(now);
}

Result<Json> metric_point(const Json& arguments, int64_t n, int64_t attempt, WallTime now) {
  const auto values = arguments.find("values");
  if (values == arguments.end() || !values->is_object() || values->empty() || values->size() > 100) {
    return fail(Code::invalid_argument, "run.log() takes 1 to 100 named numbers");
  }
  for (const auto& [key, value] : values->items()) {
    if (key.size() > 200) return fail(Code::invalid_argument, "A metric's name is longer than 200 characters");
    if (!value.is_number() && !value.is_null()) {
      return fail(Code::invalid_argument, "Metric \"" + key + "\" is " + value.type_name() + ", not a number");
    }
  }
  const auto step = arguments.value("step", Json());
  if (!step.is_null() && !step.is_number()) {
    return fail(Code::invalid_argument, "A metric's step is " + std::string(step.type_name()) + ", not a number");
  }
  return Json{{"n", n},
              {"step", step.is_null() ? Json(n) : step},
              {"time", iso_time(now)},
              {"values", *values},
              {"attempt", attempt}};
}

}  // namespace sundog::learn
