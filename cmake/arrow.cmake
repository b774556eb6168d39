# Arrow C++ from the pyarrow wheel of SUNDOG_PYTHON: the wheel ships headers and libraries, but no CMake config.
# Gives Arrow::arrow, Arrow::compute and Arrow::parquet, and SUNDOG_ARROW_FOLDER (the wheel's folder, for RPATH).

set(SUNDOG_ARROW_PROBE "import importlib.metadata, importlib.util, os
spec = importlib.util.find_spec('pyarrow')
print(importlib.metadata.version('pyarrow') if spec else 'missing')
print(os.path.dirname(spec.origin) if spec else '')")
execute_process(COMMAND ${SUNDOG_PYTHON} -c "${SUNDOG_ARROW_PROBE}" OUTPUT_VARIABLE probe RESULT_VARIABLE status
                ERROR_VARIABLE probe_error OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "Cannot ask ${SUNDOG_PYTHON} for pyarrow: ${probe_error}\nSet -DSUNDOG_PYTHON to a Python 3.11 that has pyarrow 26.0.")
endif()
string(REPLACE "\n" ";" probe "${probe}")
list(GET probe 0 SUNDOG_ARROW_VERSION)
if(SUNDOG_ARROW_VERSION STREQUAL "missing")
  message(FATAL_ERROR "${SUNDOG_PYTHON} has no pyarrow. Install it: ${SUNDOG_PYTHON} -m pip install 'pyarrow==26.0.*'")
endif()
list(GET probe 1 SUNDOG_ARROW_FOLDER)
if(NOT SUNDOG_ARROW_VERSION MATCHES "^26\\.0\\.")
  message(FATAL_ERROR "${SUNDOG_PYTHON} has pyarrow ${SUNDOG_ARROW_VERSION}, but Sundog is built for 26.0.*: its libraries carry the version in their names. Install it: ${SUNDOG_PYTHON} -m pip install 'pyarrow==26.0.*'")
endif()

set(SUNDOG_ARROW_INCLUDE ${SUNDOG_ARROW_FOLDER}/include)
if(SKBUILD)
  # pip's build environment has another random path each time; by this link ccache sees the same one.
  file(CREATE_LINK ${SUNDOG_ARROW_INCLUDE} ${CMAKE_BINARY_DIR}/arrow-include SYMBOLIC)
  set(SUNDOG_ARROW_INCLUDE ${CMAKE_BINARY_DIR}/arrow-include)
endif()

function(sundog_arrow_library name file)
  set(path ${SUNDOG_ARROW_FOLDER}/${file}.so.2600)
  if(NOT EXISTS ${path})
    message(FATAL_ERROR "pyarrow ${SUNDOG_ARROW_VERSION} at ${SUNDOG_ARROW_FOLDER} has no ${file}.so.2600. Reinstall it.")
  endif()
  add_library(Arrow::${name} SHARED IMPORTED GLOBAL)
  set_target_properties(Arrow::${name} PROPERTIES IMPORTED_LOCATION ${path}
                        INTERFACE_INCLUDE_DIRECTORIES ${SUNDOG_ARROW_INCLUDE})
endfunction()
sundog_arrow_library(arrow libarrow)
sundog_arrow_library(compute libarrow_compute)
sundog_arrow_library(parquet libparquet)
