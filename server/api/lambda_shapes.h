// Lambda shapes: Lambda's JSON to and from what functions/ knows. Pure; any thread.
//
// Failure     invalid_argument with the field that was wrong · permission_denied (a setting for admins) ·
//             unsupported fields are invalid_argument that say so: nothing is silently ignored.
#pragma once

#include <string>
#include <vector>

#include "api/router.h"
#include "functions/environments.h"
#include "functions/functions.h"

namespace sundog::api {

inline constexpr int64_t kPayloadLimit = 6'291'456;       // of a RequestResponse call
inline constexpr int64_t kEventPayloadLimit = 1'048'576;  // of an Event

// FunctionConfiguration. `qualifier` as the caller asked: shown in the ARN. Beside Lambda's fields, of a function whose
// instances are not forked from what has run its init: "Sundog": {"Start": "init", "StartReason"}.
Json configuration_json(const functions::Version& version, const std::string& qualifier,
                        const functions::Environments& environments);
// AliasConfiguration.
Json alias_configuration_json(const std::string& function, const functions::Alias& alias);

// The settings in a CreateFunction request.
Result<functions::Config> config_from_create(const Json& body, const Principal& who);
// Applies those that an UpdateFunctionConfiguration request has.
Status apply_config(functions::Config& config, const Json& body);
// Tags, and what Sundog's own say about kind, network and what may be reached.
Status apply_tags(functions::Config& config, const std::map<std::string, std::string>& tags, const Principal& who);
Status remove_tags(functions::Config& config, const std::vector<std::string>& keys);
Result<std::map<std::string, std::string>> string_map(const Json& body, std::string_view key);

// The zip in a CreateFunction request's Code or an UpdateFunctionCode request.
Result<std::string> zip_from(const Json& code);

// Applies the fields that a CreateAlias or UpdateAlias request has.
Status apply_alias(functions::Alias& alias, const Json& body);

}  // namespace sundog::api
