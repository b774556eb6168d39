// sundog.runtime._native: the few things of an instance that Python cannot do, or not fast enough. Stable ABI of 3.11.
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cerrno>
#include <cstdio>
#include <vector>

#include "calls.h"
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

PyObject* open_way_out(PyObject*, PyObject*) {
  const int fd = sundog::native::open_way_out();
  return fd < 0 ? raise(errno, "open the way out") : PyLong_FromLong(fd);
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
  return Py_BuildValue("(iIy#y#N)", int(frame.type), unsigned(frame.id), frame.head.data(),
                       Py_ssize_t(frame.head.size()), frame.raw.data(), Py_ssize_t(frame.raw.size()), fds);
}

PyObject* send(PyObject*, PyObject* arguments) {
  int socket = -1, type = 0;
  unsigned id = 0;
  const char *head = nullptr, *raw = nullptr;
  Py_ssize_t head_bytes = 0, raw_bytes = 0;
  PyObject* sequence = nullptr;
  if (!PyArg_ParseTuple(arguments, "iiIy#y#|O", &socket, &type, &id, &head, &head_bytes, &raw, &raw_bytes, &sequence)) {
    return nullptr;
  }
  std::vector<int> fds;
  if (sequence && !to_fds(sequence, fds)) return nullptr;
  int error = 0;
  Py_BEGIN_ALLOW_THREADS;
  error =
      sundog::native::write_frame(socket, uint8_t(type), id, {head, size_t(head_bytes)}, {raw, size_t(raw_bytes)}, fds);
  Py_END_ALLOW_THREADS;
  return error != 0 ? raise(error, "send") : Py_BuildValue("");
}

// Python's strings of an invocation's texts; "" costs nothing.
PyObject* text(std::string_view bytes) {
  return PyUnicode_DecodeUTF8(bytes.data(), Py_ssize_t(bytes.size()), "replace");
}

PyObject* next_invocation(PyObject*, PyObject* arguments) {
  int socket = -1;
  if (!PyArg_ParseTuple(arguments, "i", &socket)) return nullptr;
  sundog::native::Invocation call;
  sundog::native::Read outcome{};
  int error = 0;
  Py_BEGIN_ALLOW_THREADS;
  outcome = sundog::native::next_invocation(socket, call);
  error = errno;
  Py_END_ALLOW_THREADS;
  if (outcome == sundog::native::Read::failed) return raise(error, "take an invocation");
  if (outcome == sundog::native::Read::end) return Py_BuildValue("");
  const auto began = sundog::native::now();
  return Py_BuildValue("(Iy#NLNNNINNLL)", unsigned(call.frame.id), call.frame.raw.data(),
                       Py_ssize_t(call.frame.raw.size()), text(call.header.request_id),
                       static_cast<long long>(call.header.deadline_ms), text(call.header.arn), text(call.header.name),
                       text(call.header.version), unsigned(call.header.memory_mb), text(call.header.client_context),
                       text(call.header.meta), static_cast<long long>(began.wall_ns),
                       static_cast<long long>(began.cpu_ns));
}

PyObject* answer(PyObject*, PyObject* arguments) {
  int socket = -1, ok = 0, streamed = 0;
  sundog::native::Result result;
  const char* payload = nullptr;
  Py_ssize_t bytes = 0;
  unsigned id = 0;
  long long wall_ns = 0, cpu_ns = 0;
  if (!PyArg_ParseTuple(arguments, "iIppy#LL", &socket, &id, &ok, &streamed, &payload, &bytes, &wall_ns, &cpu_ns)) {
    return nullptr;
  }
  const auto ended = sundog::native::now();
  result.id = id;
  result.ok = ok != 0;
  result.streamed = streamed != 0;
  result.handler_ns = ended.wall_ns - wall_ns;
  result.cpu_ns = ended.cpu_ns - cpu_ns;
  int error = 0;
  Py_BEGIN_ALLOW_THREADS;
  error = sundog::native::write_result(socket, result, {payload, size_t(bytes)});
  Py_END_ALLOW_THREADS;
  return error != 0 ? raise(error, "answer") : Py_BuildValue("");
}

PyObject* gather_memory(PyObject*, PyObject*) {
  return PyLong_FromSize_t(sundog::native::gather_memory());
}

PyMethodDef methods[] = {
    {"confine_template", confine_template, METH_VARARGS,
     "confine_template(tmp_options, private_tmp, landlock, filters) -> int"},
    {"open_way_out", open_way_out, METH_NOARGS, "open_way_out() -> int: a listening socket, for the server"},
    {"confine_environment", confine_environment, METH_VARARGS,
     "confine_environment(landlock, filters, own_network) -> int"},
    {"become_template", become_template, METH_VARARGS,
     "become_template(code_fd, cgroup_fds, tmp_megabytes, own_network, private_tmp): right after the fork"},
    {"enter_instance", enter_instance, METH_VARARGS, "enter_instance(cgroup_fds): right after the fork"},
    {"enter_alone", enter_alone, METH_NOARGS, "enter_alone(): for an instance that was not forked"},
    {"receive", receive, METH_VARARGS, "receive(socket) -> (type, id, head, raw, fds), or None at the end"},
    {"send", send, METH_VARARGS, "send(socket, type, id, head, raw, fds=())"},
    {"next_invocation", next_invocation, METH_VARARGS,
     "next_invocation(socket) -> (id, payload, request_id, deadline_ms, arn, name, version, memory_mb, client_context, "
     "meta, wall_ns, cpu_ns), or None at the end; the last two are the clocks at the call's begin"},
    {"answer", answer, METH_VARARGS,
     "answer(socket, id, ok, streamed, payload, wall_ns, cpu_ns): the last two as next_invocation() gave them"},
    {"gather_memory", gather_memory, METH_NOARGS,
     "gather_memory() -> int: bytes now in huge pages, before a template parks"},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__native() {
  return PyModule_Create(&definition);
}
