# nlohmann/json (one header) as the target spotlight_json: the copy that lies beside ggml's source, else the system's.
find_path(SPOTLIGHT_JSON_INCLUDE nlohmann/json.hpp HINTS "${ggml_source}/vendor" "${ggml_source}/../vendor")
if(NOT SPOTLIGHT_JSON_INCLUDE)
  message(FATAL_ERROR "nlohmann/json.hpp was not found; install it: apt-get install nlohmann-json3-dev")
endif()
add_library(spotlight_json INTERFACE)
target_include_directories(spotlight_json SYSTEM INTERFACE "${SPOTLIGHT_JSON_INCLUDE}")
