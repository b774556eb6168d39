# Which compiler, before project(): clang 19, unless -DCMAKE_CXX_COMPILER names another (CC and CXX are not asked, since
# scikit-build-core sets them to what built Python); ccache, where there is one, for wheels too.
set(SUNDOG_APT_HINT "On Debian bookworm: apt-get install clang-19 lld-19 ninja-build and what tools/dev/apt-packages.txt names; ./dev setup does it.")

function(sundog_choose_compiler language program)
  if(CMAKE_${language}_COMPILER)
    set(named "${CMAKE_${language}_COMPILER}")
  else()
    set(named ${program})
  endif()
  find_program(SUNDOG_${language}_COMPILER NAMES ${named} NO_CACHE)
  if(NOT SUNDOG_${language}_COMPILER)
    message(FATAL_ERROR "Sundog is built by clang 19, and there is no ${named} on PATH. ${SUNDOG_APT_HINT}")
  endif()
  set(CMAKE_${language}_COMPILER ${SUNDOG_${language}_COMPILER} CACHE FILEPATH "The compiler" FORCE)
endfunction()
sundog_choose_compiler(C clang-19)
sundog_choose_compiler(CXX clang++-19)

find_program(SUNDOG_CCACHE ccache NO_CACHE)
if(SUNDOG_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # What a cache needs to take precompiled headers, and to serve another folder of the same sources.
  set(settings CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
               CCACHE_BASEDIR=${CMAKE_CURRENT_SOURCE_DIR})
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env ${settings} ${SUNDOG_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_C_COMPILER_LAUNCHER})
endif()
