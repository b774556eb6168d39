# The few rules every module is built by: warnings, sanitizers, one precompiled header, tests and fuzzers beside the code.

find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(spdlog REQUIRED)

add_compile_options(-Wall -Wextra -Wpedantic -Wno-missing-field-initializers -fno-omit-frame-pointer)
add_link_options(-fuse-ld=lld)
# A precompiled header's time stamp would spoil ccache.
add_compile_options(-Xclang -fno-pch-timestamp)
if(SUNDOG_SANITIZE)
  add_compile_options(-fsanitize=${SUNDOG_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SUNDOG_SANITIZE})
endif()
if(SUNDOG_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link -O1)
endif()
# Lines are enough for a backtrace and a sanitizer's report; the debug preset has everything.
if(SUNDOG_SANITIZE OR NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_options(-gline-tables-only)
endif()
include_directories(${CMAKE_SOURCE_DIR}/server)
if(SUNDOG_FUZZ)
  add_custom_target(fuzzers ALL)
endif()

# sundog_precompiled(TARGET HOST): TARGET reads the header that was precompiled for HOST, instead of compiling its own.
# The host is a library (-fPIC), and clang refuses its header in a program compiled with -fPIE.
function(sundog_precompiled target host)
  target_precompile_headers(${target} REUSE_FROM ${host})
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "EXECUTABLE")
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
endfunction()

if(SUNDOG_TESTS)
  find_package(GTest REQUIRED)
  # Holds the header of all tests: the modules' own and GoogleTest.
  file(WRITE ${CMAKE_BINARY_DIR}/test_pch.cc "")
  add_library(sundog_test_pch OBJECT EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/test_pch.cc)
  target_link_libraries(sundog_test_pch PRIVATE spdlog::spdlog nlohmann_json::nlohmann_json GTest::gmock)
  target_precompile_headers(sundog_test_pch PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch.h <gmock/gmock.h>)
endif()

# sundog_module(NAME DEPS other modules and libraries…)
#   every .cc of the folder but *_test.cc, *_fuzz.cc and *_main.cc becomes the static library sundog_NAME;
#   the *_test.cc become one program NAME_test. Fuzzers are named one by one: see sundog_fuzzer.
# Options: EXCLUDE file names that are built by the module's own CMakeLists, TEST_DEPS more libraries for the tests.
function(sundog_module name)
  cmake_parse_arguments(ARG "" "" "DEPS;EXCLUDE;TEST_DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz|main)\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  foreach(file ${ARG_EXCLUDE})
    list(FILTER sources EXCLUDE REGEX "/${file}$")
  endforeach()
  add_library(sundog_${name} STATIC ${sources})
  target_link_libraries(sundog_${name} PUBLIC ${ARG_DEPS})
  if(name STREQUAL "base")
    target_precompile_headers(sundog_base PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch.h)
  else()
    sundog_precompiled(sundog_${name} sundog_base)
  endif()
  if(SUNDOG_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE sundog_${name} ${ARG_TEST_DEPS} GTest::gmock GTest::gtest_main)
    sundog_precompiled(${name}_test sundog_test_pch)
    add_test(NAME ${name}_test COMMAND ${name}_test)
  endif()
endfunction()

# sundog_fuzzer(NAME SOURCES beside NAME.cc, the files it fuzzes… DEPS libraries…): a libFuzzer program of the fuzz preset.
# It compiles just the files that it needs, so that the preset need not build every module once more.
function(sundog_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  if(NOT SUNDOG_FUZZ)
    return()
  endif()
  add_executable(${name} ${name}.cc ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzzers ${name})
endfunction()
