// sundog.runtime._native: the few things of an instance that Python cannot do, or not fast enough. Stable ABI of 3.11.
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <sys/resource.h>

#include <cerrno>
#include <cstdio>
#include <vector>

#include "confine.h"
#include "frames.h"
#include "memory.h"

namespace {

PyObject* raise(int error, const char* step) {
  char text[128];
  snprintf(text, sizeof(text), "cannot %s", step);
  PyObject* arguments = Py_BuildValue("(is)", error, text);
  if (arguments) {
    PyErr_SetObject(PyExc_OSError, arguments);
    Py_DecRef(arguments);
  }
  return nullptr;
}

bool to_fds(PyObject* sequence, std::vector<int>& out) {
  const Py_ssize_t count = PySequence_Size(sequence);
  if (count < 0) return false;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = PySequence_GetItem(sequence, i);
    if (!item) return false;
    const long fd = PyLong_AsLong(item);
    Py_DecRef(item);
    if (fd == -1 && PyErr_Occurred()) return false;
    out.push_back(int(fd));
  }
  return true;
}

PyObject* confine_template(PyObject*, PyObject* arguments) {
  sundog::native::TemplateRules rules;
  int private_tmp = 1, landlock = 1, filters = 1;
  if (!PyArg_ParseTuple(arguments, "sppp", &rules.tmp_options, &private_tmp, &landlock, &filters)) return nullptr;
  rules.private_tmp = private_tmp != 0;
  rules.landlock = landlock != 0;
  rules.filters = filters != 0;
  const char* step = "confine the template";
  const int in_force = sundog::native::confine_template(rules, step);
  return in_force < 0 ? raise(errno, step) : PyLong_FromLong(in_force);
}

PyObject* confine_environment(PyObject*, PyObject* arguments) {
  int landlock = 1, filters = 1, own_network = 1;
  if (!PyArg_ParseTuple(arguments, "ppp", &landlock, &filters, &own_network)) return nullptr;
  const char* step = "confine the template";
  const int in_force = sundog::native::confine_environment({landlock != 0, filters != 0, own_network != 0}, step);
  return in_force < 0 ? raise(errno, step) : PyLong_FromLong(in_force);
}

PyObject* become_template(PyObject*, PyObject* arguments) {
  sundog::native::FunctionRules rules;
  PyObject* sequence = nullptr;
  int own_network = 1, private_tmp = 1;
  if (!PyArg_ParseTuple(arguments, "iOIpp", &rules.code, &sequence, &rules.tmp_megabytes, &own_network, &private_tmp)) {
    return nullptr;
  }
  if (!to_fds(sequence, rules.cgroups)) return nullptr;
  rules.own_network = own_network != 0;
  rules.private_tmp = private_tmp != 0;
  const char* step = "become a template";
  if (const int error = sundog::native::become_template(rules, step)) return raise(error, step);
  return Py_BuildValue("");
}

PyObject* enter_instance(PyObject*, PyObject* arguments) {
  PyObject* sequence = nullptr;
  if (!PyArg_ParseTuple(arguments, "O", &sequence)) return nullptr;
  std::vector<int> cgroups;
  if (!to_fds(sequence, cgroups)) return nullptr;
  const char* step = "enter the instance";
  if (const int error = sundog::native::enter_instance(cgroups, step)) return raise(error, step);
  return Py_BuildValue("");
}

PyObject* enter_alone(PyObject*, PyObject*) {
  const char* step = "enter the instance";
  if (const int error = sundog::native::enter_alone(step)) return raise(error, step);
  return Py_BuildValue("");
}

PyObject* receive(PyObject*, PyObject* arguments) {
  int socket = -1;
  if (!PyArg_ParseTuple(arguments, "i", &socket)) return nullptr;
  sundog::native::Frame frame;
  sundog::native::Read outcome{};
  int error = 0;
  Py_BEGIN_ALLOW_THREADS;
  outcome = sundog::native::read_frame(socket, frame);
  error = errno;
  Py_END_ALLOW_THREADS;
  if (outcome == sundog::native::Read::failed) return raise(error, "receive");
  if (outcome == sundog::native::Read::end) return Py_BuildValue("");
  PyObject* fds = PyList_New(0);
  for (const int fd : frame.fds) {
    PyObject* number = PyLong_FromLong(fd);
    PyList_Append(fds, number);
    Py_DecRef(number);
  }
  return Py_BuildValue("(iIy#y#N)", int(frame.type), unsigned(frame.id), frame.json.data(),
                       Py_ssize_t(frame.json.size()), frame.raw.data(), Py_ssize_t(frame.raw.size()), fds);
}

PyObject* send(PyObject*, PyObject* arguments) {
  int socket = -1, type = 0;
  unsigned id = 0;
  const char *json = nullptr, *raw = nullptr;
  Py_ssize_t json_bytes = 0, raw_bytes = 0;
  PyObject* sequence = nullptr;
  if (!PyArg_ParseTuple(arguments, "iiIy#y#|O", &socket, &type, &id, &json, &json_bytes, &raw, &raw_bytes, &sequence)) {
    return nullptr;
  }
  std::vector<int> fds;
  if (sequence && !to_fds(sequence, fds)) return nullptr;
  int error = 0;
  Py_BEGIN_ALLOW_THREADS;
  error =
      sundog::native::write_frame(socket, uint8_t(type), id, {json, size_t(json_bytes)}, {raw, size_t(raw_bytes)}, fds);
  Py_END_ALLOW_THREADS;
  return error != 0 ? raise(error, "send") : Py_BuildValue("");
}

// With every invocation, so without the module `resource` and its structures.
PyObject* cpu_ns(PyObject*, PyObject*) {
  long long total = 0;
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage{};
    getrusage(who, &usage);
    for (const timeval& part : {usage.ru_utime, usage.ru_stime}) {
      total += part.tv_sec * 1'000'000'000LL + part.tv_usec * 1'000LL;
    }
  }
  return PyLong_FromLongLong(total);
}

PyObject* gather_memory(PyObject*, PyObject*) {
  return PyLong_FromSize_t(sundog::native::gather_memory());
}

PyMethodDef methods[] = {
    {"confine_template", confine_template, METH_VARARGS,
     "confine_template(tmp_options, private_tmp, landlock, filters) -> int"},
    {"confine_environment", confine_environment, METH_VARARGS,
     "confine_environment(landlock, filters, own_network) -> int"},
    {"become_template", become_template, METH_VARARGS,
     "become_template(code_fd, cgroup_fds, tmp_megabytes, own_network, private_tmp): right after the fork"},
    {"enter_instance", enter_instance, METH_VARARGS, "enter_instance(cgroup_fds): right after the fork"},
    {"enter_alone", enter_alone, METH_NOARGS, "enter_alone(): for an instance that was not forked"},
    {"receive", receive, METH_VARARGS, "receive(socket) -> (type, id, json, raw, fds), or None at the end"},
    {"send", send, METH_VARARGS, "send(socket, type, id, json, raw, fds=())"},
    {"cpu_ns", cpu_ns, METH_NOARGS, "cpu_ns() -> int: user and system time of this process and its reaped children"},
    {"gather_memory", gather_memory, METH_NOARGS,
     "gather_memory() -> int: bytes now in huge pages, before a template parks"},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__native() {
  return PyModule_Create(&definition);
}
