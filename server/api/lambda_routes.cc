#include "api/lambda_routes.h"

#include "api/lambda_answers.h"
#include "api/lambda_shapes.h"
#include "functions/naming.h"

namespace sundog::api {
namespace {

using functions::Environments;
using functions::Functions;
using functions::Version;
using CallPtr = std::shared_ptr<Call>;

constexpr int64_t kCodeBodyLimit = 69'905'067;  // Lambda's: a zip of 50 MB as base64
constexpr int kPageLimit = 50;
constexpr std::string_view kFunctions = "/2015-03-31/functions";

std::string path(std::string_view rest) {
  return std::string(kFunctions) + std::string(rest);
}

Result<int> max_items(const Call& call) {
  SUNDOG_TRY(asked, call.query_int("MaxItems", kPageLimit));
  if (asked < 1 || asked > 10'000) {
    return fail(Code::invalid_argument, "MaxItems is " + std::to_string(asked) + ", but must be between 1 and 10000.");
  }
  return static_cast<int>(std::min<int64_t>(asked, kPageLimit));
}

LambdaAnswer with_marker(Json body, const std::string& next) {
  if (!next.empty()) body["NextMarker"] = next;
  return {200, std::move(body)};
}

// Where the caller, with the same key, gets the zip.
std::string code_location(const Call& call, const std::string& name, const std::string& qualifier) {
  const std::string_view host = call.request.header("host");
  std::string url = host.empty() ? "" : "http://" + std::string(host);
  url += "/v1/functions/" + name + "/code";
  if (!qualifier.empty()) url += "?Qualifier=" + net::percent_encode(qualifier, false);
  return url;
}

// ListFunctions with FunctionVersion=ALL. The marker names the last version shown: "name:version".
Result<LambdaAnswer> list_all_versions(const Call& call, const Functions& functions, const Environments& environments) {
  SUNDOG_TRY(limit, max_items(call));
  const std::string marker(call.query("Marker"));
  const size_t colon = marker.find(':');
  std::string name = marker.substr(0, colon);
  std::string after = colon == std::string::npos ? "" : marker.substr(colon + 1);
  const std::string& tenant = call.principal.tenant;
  Json items = Json::array();
  bool within = colon != std::string::npos && functions.get(tenant, name, "").ok();
  while (true) {
    if (!within) {
      SUNDOG_TRY(page, functions.list(tenant, name, 1));
      if (page.items.empty()) return with_marker({{"Functions", std::move(items)}}, "");
      name = page.items.front().config.name;
      after.clear();
    }
    within = false;
    const int room = limit - static_cast<int>(items.size());
    if (room == 0) return with_marker({{"Functions", std::move(items)}}, name + ":before");
    SUNDOG_TRY(versions, functions.versions(tenant, name, after == "before" ? "" : after, room));
    for (const auto& version : versions.items)
      items.push_back(configuration_json(version, version.version, environments));
    if (!versions.next.empty()) return with_marker({{"Functions", std::move(items)}}, name + ":" + versions.next);
  }
}

Result<LambdaAnswer> list_functions(const Call& call, const Functions& functions, const Environments& environments) {
  const std::string_view which = call.query("FunctionVersion");
  if (which == "ALL") return list_all_versions(call, functions, environments);
  if (!which.empty()) return fail(Code::invalid_argument, "FunctionVersion must be ALL or absent.");
  SUNDOG_TRY(limit, max_items(call));
  SUNDOG_TRY(page, functions.list(call.principal.tenant, std::string(call.query("Marker")), limit));
  Json items = Json::array();
  for (const auto& version : page.items) items.push_back(configuration_json(version, "", environments));
  return with_marker({{"Functions", std::move(items)}}, page.next);
}

Result<LambdaAnswer> get_function(const Call& call, const Functions& functions, const Environments& environments) {
  SUNDOG_TRY(name, named_function(call));
  const std::string& tenant = call.principal.tenant;
  SUNDOG_TRY(version, functions.get(tenant, name.name, name.qualifier));
  Json body = {{"Configuration", configuration_json(version, name.qualifier, environments)},
               {"Code", {{"RepositoryType", "Sundog"}, {"Location", code_location(call, name.name, name.qualifier)}}}};
  SUNDOG_TRY(latest, functions.get(tenant, name.name, ""));
  if (!latest.config.tags.empty()) body["Tags"] = latest.config.tags;
  SUNDOG_TRY(resolved, functions.resolve(tenant, name.name, "", 0));
  if (resolved.reserved_concurrency) {
    body["Concurrency"] = {{"ReservedConcurrentExecutions", *resolved.reserved_concurrency}};
  }
  return LambdaAnswer{200, std::move(body)};
}

void add_function_routes(Router& router, Functions& functions, Environments& environments) {
  add_lambda(
      router, "POST", path(""), Role::deployer,
      [&](const CallPtr& call) -> Result<LambdaAnswer> {
        SUNDOG_TRY(body, call->json());
        SUNDOG_TRY(config, config_from_create(body, call->principal));
        SUNDOG_TRY(zip, zip_from(body.contains("Code") ? body["Code"] : Json()));
        SUNDOG_TRY(publish, get_bool(body, "Publish", false));
        body = nullptr;  // tens of megabytes that are not needed twice
        SUNDOG_TRY(version, functions.create(call->principal.tenant, std::move(config), std::move(zip), publish));
        return LambdaAnswer{201, configuration_json(version, "", environments)};
      },
      kCodeBodyLimit);
  add_lambda(router, "GET", path(""), Role::viewer,
             [&](const CallPtr& call) { return list_functions(*call, functions, environments); });
  add_lambda(router, "GET", path("/{name}"), Role::viewer,
             [&](const CallPtr& call) { return get_function(*call, functions, environments); });
  add_lambda(router, "GET", path("/{name}/configuration"), Role::viewer,
             [&](const CallPtr& call) -> Result<LambdaAnswer> {
               SUNDOG_TRY(name, named_function(*call));
               SUNDOG_TRY(version, functions.get(call->principal.tenant, name.name, name.qualifier));
               return LambdaAnswer{200, configuration_json(version, name.qualifier, environments)};
             });
  add_lambda(router, "DELETE", path("/{name}"), Role::deployer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
    SUNDOG_TRY(name, named_function(*call));
    SUNDOG_CHECK(functions.remove(call->principal.tenant, name.name, name.qualifier));
    return LambdaAnswer{204, nullptr};
  });
}

void add_update_routes(Router& router, Functions& functions, Environments& environments) {
  add_lambda(
      router, "PUT", path("/{name}/code"), Role::deployer,
      [&](const CallPtr& call) -> Result<LambdaAnswer> {
        SUNDOG_TRY(name, named_function(*call));
        SUNDOG_TRY(body, call->json());
        SUNDOG_TRY(zip, zip_from(body));
        SUNDOG_TRY(publish, get_bool(body, "Publish", false));
        SUNDOG_TRY(dry_run, get_bool(body, "DryRun", false));
        SUNDOG_TRY(revision, get_string(body, "RevisionId", ""));
        body = nullptr;
        SUNDOG_TRY(version, functions.update_code(call->principal.tenant, name.name, std::move(zip), publish, revision,
                                                  dry_run));
        return LambdaAnswer{200, configuration_json(version, "", environments)};
      },
      kCodeBodyLimit);
  add_lambda(
      router, "PUT", path("/{name}/configuration"), Role::deployer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
        SUNDOG_TRY(name, named_function(*call));
        SUNDOG_TRY(body, call->json());
        SUNDOG_TRY(revision, get_string(body, "RevisionId", ""));
        SUNDOG_TRY(version,
                   functions.update_config(call->principal.tenant, name.name, revision,
                                           [&](functions::Config& config) { return apply_config(config, body); }));
        return LambdaAnswer{200, configuration_json(version, "", environments)};
      });
}

void add_version_routes(Router& router, Functions& functions, Environments& environments) {
  add_lambda(router, "POST", path("/{name}/versions"), Role::deployer,
             [&](const CallPtr& call) -> Result<LambdaAnswer> {
               SUNDOG_TRY(name, named_function(*call));
               SUNDOG_TRY(body, call->json());
               SUNDOG_TRY(sha256, get_string(body, "CodeSha256", ""));
               SUNDOG_TRY(description, get_string(body, "Description", ""));
               SUNDOG_TRY(revision, get_string(body, "RevisionId", ""));
               SUNDOG_TRY(version, functions.publish(call->principal.tenant, name.name, sha256, description, revision));
               return LambdaAnswer{201, configuration_json(version, "", environments)};
             });
  add_lambda(router, "GET", path("/{name}/versions"), Role::viewer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
    SUNDOG_TRY(name, named_function(*call));
    SUNDOG_TRY(limit, max_items(*call));
    SUNDOG_TRY(page, functions.versions(call->principal.tenant, name.name, std::string(call->query("Marker")), limit));
    Json items = Json::array();
    for (const auto& version : page.items) items.push_back(configuration_json(version, version.version, environments));
    return with_marker({{"Versions", std::move(items)}}, page.next);
  });
}

// Fields that the request leaves out stay as they are, so this reads, edits and writes; again if another came between.
Result<functions::Alias> update_alias(Functions& functions, const std::string& tenant, const std::string& function,
                                      const std::string& name, const Json& body) {
  SUNDOG_TRY(revision, get_string(body, "RevisionId", ""));
  for (int attempt = 0;; ++attempt) {
    SUNDOG_TRY(alias, functions.get_alias(tenant, function, name));
    const std::string read = alias.revision_id;
    SUNDOG_CHECK(apply_alias(alias, body));
    auto updated = functions.update_alias(tenant, function, alias, revision.empty() ? read : revision);
    const bool overtaken = !updated.ok() && revision.empty() && updated.error().message == functions::kStaleRevision;
    if (!overtaken || attempt == 3) return updated;
  }
}

void add_alias_routes(Router& router, Functions& functions) {
  add_lambda(router, "POST", path("/{name}/aliases"), Role::deployer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
    SUNDOG_TRY(name, named_function(*call));
    SUNDOG_TRY(body, call->json());
    functions::Alias alias;
    SUNDOG_TRY(alias_name, get_string(body, "Name"));
    alias.name = std::move(alias_name);
    SUNDOG_CHECK(apply_alias(alias, body));
    SUNDOG_TRY(created, functions.create_alias(call->principal.tenant, name.name, std::move(alias)));
    return LambdaAnswer{201, alias_configuration_json(name.name, created)};
  });
  add_lambda(router, "GET", path("/{name}/aliases"), Role::viewer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
    SUNDOG_TRY(name, named_function(*call));
    SUNDOG_TRY(limit, max_items(*call));
    SUNDOG_TRY(page, functions.aliases(call->principal.tenant, name.name, std::string(call->query("FunctionVersion")),
                                       std::string(call->query("Marker")), limit));
    Json items = Json::array();
    for (const auto& alias : page.items) items.push_back(alias_configuration_json(name.name, alias));
    return with_marker({{"Aliases", std::move(items)}}, page.next);
  });
  add_lambda(router, "GET", path("/{name}/aliases/{alias}"), Role::viewer,
             [&](const CallPtr& call) -> Result<LambdaAnswer> {
               SUNDOG_TRY(name, named_function(*call));
               SUNDOG_TRY(alias, functions.get_alias(call->principal.tenant, name.name, call->param("alias")));
               return LambdaAnswer{200, alias_configuration_json(name.name, alias)};
             });
  add_lambda(
      router, "PUT", path("/{name}/aliases/{alias}"), Role::deployer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
        SUNDOG_TRY(name, named_function(*call));
        SUNDOG_TRY(body, call->json());
        SUNDOG_TRY(alias, update_alias(functions, call->principal.tenant, name.name, call->param("alias"), body));
        return LambdaAnswer{200, alias_configuration_json(name.name, alias)};
      });
  add_lambda(router, "DELETE", path("/{name}/aliases/{alias}"), Role::deployer,
             [&](const CallPtr& call) -> Result<LambdaAnswer> {
               SUNDOG_TRY(name, named_function(*call));
               SUNDOG_CHECK(functions.remove_alias(call->principal.tenant, name.name, call->param("alias")));
               return LambdaAnswer{204, nullptr};
             });
}

void add_concurrency_routes(Router& router, Functions& functions) {
  add_lambda(router, "PUT", "/2017-10-31/functions/{name}/concurrency", Role::deployer,
             [&](const CallPtr& call) -> Result<LambdaAnswer> {
               SUNDOG_TRY(name, named_function(*call));
               SUNDOG_TRY(body, call->json());
               SUNDOG_TRY(limit, get_int(body, "ReservedConcurrentExecutions"));
               const int reserved = static_cast<int>(std::clamp<int64_t>(limit, -1, 1'000'000));
               SUNDOG_CHECK(functions.set_reserved_concurrency(call->principal.tenant, name.name, reserved));
               return LambdaAnswer{200, {{"ReservedConcurrentExecutions", reserved}}};
             });
  add_lambda(router, "GET", "/2019-09-30/functions/{name}/concurrency", Role::viewer,
             [&](const CallPtr& call) -> Result<LambdaAnswer> {
               SUNDOG_TRY(name, named_function(*call));
               SUNDOG_TRY(resolved, functions.resolve(call->principal.tenant, name.name, "", 0));
               Json body = Json::object();
               if (resolved.reserved_concurrency) body["ReservedConcurrentExecutions"] = *resolved.reserved_concurrency;
               return LambdaAnswer{200, std::move(body)};
             });
  add_lambda(router, "DELETE", "/2017-10-31/functions/{name}/concurrency", Role::deployer,
             [&](const CallPtr& call) -> Result<LambdaAnswer> {
               SUNDOG_TRY(name, named_function(*call));
               SUNDOG_CHECK(functions.set_reserved_concurrency(call->principal.tenant, name.name, std::nullopt));
               return LambdaAnswer{204, nullptr};
             });
}

Result<LambdaAnswer> change_tags(const Call& call, Functions& functions,
                                 const std::function<Status(functions::Config&)>& edit) {
  SUNDOG_TRY(name, named_function(call));
  SUNDOG_CHECK(functions.update_config(call.principal.tenant, name.name, "", edit));
  return LambdaAnswer{204, nullptr};
}

void add_tag_routes(Router& router, Functions& functions) {
  const std::string tags = "/2017-03-31/tags/{name}";
  add_lambda(router, "GET", tags, Role::viewer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
    SUNDOG_TRY(name, named_function(*call));
    SUNDOG_TRY(version, functions.get(call->principal.tenant, name.name, ""));
    return LambdaAnswer{200, {{"Tags", version.config.tags}}};
  });
  add_lambda(router, "POST", tags, Role::deployer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
    SUNDOG_TRY(body, call->json());
    SUNDOG_TRY(added, string_map(body, "Tags"));
    return change_tags(*call, functions,
                       [&](functions::Config& config) { return apply_tags(config, added, call->principal); });
  });
  add_lambda(router, "DELETE", tags, Role::deployer, [&](const CallPtr& call) -> Result<LambdaAnswer> {
    std::vector<std::string> keys;
    for (const auto& [key, value] : call->request.query) {
      if (key == "tagKeys") keys.push_back(value);
    }
    return change_tags(*call, functions, [&](functions::Config& config) { return remove_tags(config, keys); });
  });
}

Result<LambdaAnswer> account_settings(const Call& call, const Functions& functions) {
  int64_t count = 0;
  int64_t code_bytes = 0;
  int reserved = 0;
  std::string after;
  do {
    SUNDOG_TRY(page, functions.list(call.principal.tenant, after, 1000));
    for (const auto& version : page.items) {
      ++count;
      code_bytes += version.code_bytes;
      const auto resolved = functions.resolve(call.principal.tenant, version.config.name, "", 0);
      if (resolved.ok()) reserved += resolved->reserved_concurrency.value_or(0);
    }
    after = page.next;
  } while (!after.empty());
  constexpr int kConcurrency = 1000;
  return LambdaAnswer{200,
                      {{"AccountLimit",
                        {{"CodeSizeUnzipped", 250 << 20},
                         {"CodeSizeZipped", 50 << 20},
                         {"TotalCodeSize", int64_t{75} << 30},
                         {"ConcurrentExecutions", kConcurrency},
                         {"UnreservedConcurrentExecutions", std::max(0, kConcurrency - reserved)}}},
                       {"AccountUsage", {{"TotalCodeSize", code_bytes}, {"FunctionCount", count}}}}};
}

// What GetFunction's Location points at.
void add_code_route(Router& router, const Functions& functions, const store::Blobs& blobs) {
  router.add("GET", "/v1/functions/{name}/code", Role::viewer, [&](const CallPtr& call) {
    const auto zip = [&]() -> Result<Bytes> {
      SUNDOG_TRY(name, named_function(*call));
      SUNDOG_TRY(version, functions.get(call->principal.tenant, name.name, name.qualifier));
      return blobs.get(version.code_blob);
    }();
    if (!zip.ok()) return reply_error(*call->responder, zip.error(), ErrorShape::sundog);
    call->responder->send({.status = 200, .headers = {{"Content-Type", "application/zip"}}, .body = *zip});
  });
}

}  // namespace

void add_lambda_routes(Router& router, Functions& functions, Environments& environments, invoke::Invoker& invoker,
                       invoke::Events& events, store::Blobs& blobs) {
  add_function_routes(router, functions, environments);
  add_update_routes(router, functions, environments);
  add_version_routes(router, functions, environments);
  add_alias_routes(router, functions);
  add_concurrency_routes(router, functions);
  add_provisioned_routes(router, functions, invoker);
  add_tag_routes(router, functions);
  add_lambda(router, "GET", "/2016-08-19/account-settings", Role::viewer,
             [&](const CallPtr& call) { return account_settings(*call, functions); });
  add_code_route(router, functions, blobs);
  add_invoke_route(router, functions, invoker, events);
  add_stream_routes(router, functions, invoker);
}

}  // namespace sundog::api
