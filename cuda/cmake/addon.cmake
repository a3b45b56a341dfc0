# spotlight.node: the only target that sees N-API. Symbols are hidden, so two addons that carry ggml never share one.
execute_process(
  COMMAND node -p "require('node-addon-api').include_dir"
  WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
  OUTPUT_VARIABLE addon_api
  OUTPUT_STRIP_TRAILING_WHITESPACE)
get_filename_component(addon_api "${addon_api}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")

if(SPOTLIGHT_BINDING_SOURCES)
  add_library(spotlight SHARED ${SPOTLIGHT_BINDING_SOURCES} ${CMAKE_JS_SRC})
  set_target_properties(spotlight PROPERTIES PREFIX "" SUFFIX ".node" CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_include_directories(spotlight PRIVATE "${CMAKE_JS_INC}" "${addon_api}")
  target_compile_definitions(spotlight PRIVATE NAPI_VERSION=8 NAPI_CPP_EXCEPTIONS)
  target_compile_options(spotlight PRIVATE ${SPOTLIGHT_CXX_FLAGS})
  target_link_libraries(spotlight PRIVATE spotlight_core ${CMAKE_JS_LIB})
  target_link_options(spotlight PRIVATE -Wl,--exclude-libs,ALL)
endif()
