// A stand-in for NVRTC: clang++ compiles the kernels for the CPU with shim.hpp before them, into a shared library that
// libcuda's stand-in loads. What was compiled is kept by content beside this library.
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))
extern char **environ;

// nvrtcResult
enum { success = 0, invalidInput = 3, invalidOption = 5, compilation = 6 };

struct Program {
  std::string source, log, image, key;
};

/// The folder of this library; SHIM_SOURCES is where shim.hpp lies.
static std::string folder() {
  Dl_info here;
  dladdr((void *)&folder, &here);
  std::string path = here.dli_fname;
  return path.substr(0, path.rfind('/'));
}
static std::string contents(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}
/// Runs clang++; its messages go to `log`.
static bool run(std::vector<std::string> words, std::string &log) {
  // The link that scripts/cuda-shim made to the one that it took.
  words.insert(words.begin(), folder() + "/clang++");
  std::vector<char *> pointers;
  for (auto &word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  std::string path = folder() + "/log-XXXXXX";
  int file = mkstemp(path.data());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, file, 2);
  pid_t child;
  int status = posix_spawnp(&child, pointers[0], &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (status == 0)
    while (waitpid(child, &status, 0) < 0) {
    }
  else
    log = std::string(pointers[0]) + ": " + strerror(status);
  close(file);
  log += contents(path);
  unlink(path.c_str());
  return status == 0;
}
/// FNV-1a twice, with different starts.
static std::string digest(const std::string &text) {
  unsigned long long a = 1469598103934665603ull, b = 1099511628211ull * 31;
  for (unsigned char c : text) a = (a ^ c) * 1099511628211ull, b = (b ^ c) * 1099511628211ull + 1;
  char hex[40];
  snprintf(hex, sizeof hex, "%016llx%016llx", a, b);
  return hex;
}

EXPORT int nvrtcVersion(int *major, int *minor) {
  // Not a version that exists, so that its code is not taken for a real compiler's.
  *major = 13, *minor = 99;
  return success;
}
EXPORT int nvrtcGetNumSupportedArchs(int *count) {
  *count = 3;
  return success;
}
EXPORT int nvrtcGetSupportedArchs(int *archs) {
  archs[0] = 80, archs[1] = 90, archs[2] = 100;
  return success;
}
EXPORT const char *nvrtcGetErrorString(int status) {
  return status == compilation ? "NVRTC_ERROR_COMPILATION" : status ? "NVRTC_ERROR" : "NVRTC_SUCCESS";
}
EXPORT int nvrtcCreateProgram(
    void **program, const char *source, const char *, int headers, const char *const *, const char *const *) {
  if (!source || headers) return invalidInput;
  *program = new Program{source, "", "", ""};
  return success;
}
EXPORT int nvrtcDestroyProgram(void **program) {
  delete (Program *)*program;
  *program = nullptr;
  return success;
}

/// What calls each kernel by its arguments' addresses, for the kernels found in preprocessed text.
static std::string table(const std::string &text) {
  static const std::regex kernel(
      R"re(extern\s+"C"\s+__attribute__\(\(shim_kernel\)\)\s+void\s+__attribute__\(\(shim_bound\((.*?)\)\)\)\s+(\w+)\s*\()re");
  std::string entries;
  std::vector<std::string> seen;
  for (auto i = std::sregex_iterator(text.begin(), text.end(), kernel); i != std::sregex_iterator(); ++i) {
    std::string name = (*i)[2], bound = (*i)[1];
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    seen.push_back(name);
    entries += "SHIM_ENTRY(" + name + ", (" + bound + "))\n";
  }
  return "\n#include \"" SHIM_SOURCES "/entries.hpp\"\nextern \"C\" SHIM_VISIBLE const shim_entry shim_entries[] = {\n" +
         entries + "{0, 0, 0, 0, 0}};\n";
}

EXPORT int nvrtcCompileProgram(void *program, int count, const char *const *options) {
  Program *p = (Program *)program;
  const char *fault = getenv("FLOW_SHIM_FAULT");
  if (fault && !strcmp(fault, "compile")) {
    p->log = "flow.cu(1): error: FLOW_SHIM_FAULT asks for an error\n";
    return compilation;
  }
  std::string defines;
  bool architecture = false;
  for (int i = 0; i < count; i++) {
    std::string option = options[i];
    if (option.rfind("-D", 0) == 0) {
      size_t equals = option.find('=');
      defines += "#define " + option.substr(2, equals - 2) + " " +
                 (equals == std::string::npos ? "1" : option.substr(equals + 1)) + "\n";
    } else if (option.rfind("-arch=sm_", 0) == 0) {
      architecture = true;
      defines += "#define __CUDA_ARCH__ " + std::to_string(atoi(option.c_str() + 9) * 10) + "\n";
    } else if (option != "-std=c++17" && option != "--fmad=false" &&
               option.find("ptxas-options=-v") == std::string::npos) {
      p->log = "nvrtc: error: invalid value for --gpu-architecture or an unknown option: " + option;
      return invalidOption;
    }
  }
  if (!architecture) return invalidOption;
  std::string kept = folder() + "/kernels", text = defines + "#include \"" SHIM_SOURCES "/shim.hpp\"\n" + p->source;
  mkdir(kept.c_str(), 0777);
  p->key = digest(text);
  std::string stem = kept + "/" + p->key, own = stem + "-" + std::to_string(getpid()) + "-" + std::to_string((size_t)p);
  p->image = contents(stem + ".so");
  if (!p->image.empty()) return success;

  std::string source = own + ".cpp", preprocessed = own + ".ii", library = own + ".so";
  std::ofstream(source) << text;
  std::vector<std::string> flags = {"-std=c++17", "-DFLOW_SHIM", "-DSHIM_MODULE", "-w"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), flags.begin(), flags.end());
    return more;
  };
  bool made = run(with({"-E", source, "-o", preprocessed}), p->log);
  if (made) {
    // Kept, for checks that compile it in other ways.
    std::ofstream(source, std::ios::app) << table(contents(preprocessed));
    made = run(
        with({"-O1", "-fPIC", "-shared", "-nostdlib", "-fuse-ld=lld", "-fvisibility=hidden", "-fno-math-errno",
              "-fsanitize=alignment,array-bounds", "-fsanitize-trap=all", source, "-o", library}),
        p->log);
  }
  unlink(preprocessed.c_str());
  made = made && rename(source.c_str(), (stem + ".cpp").c_str()) == 0 && rename(library.c_str(), (stem + ".so").c_str()) == 0;
  if (made)
    p->image = contents(stem + ".so");
  else
    unlink(source.c_str());
  return made ? success : compilation;
}

EXPORT int nvrtcGetCUBINSize(void *program, size_t *bytes) {
  Program *p = (Program *)program;
  *bytes = p->image.empty() ? 0 : p->image.size() + 48;
  return success;
}
EXPORT int nvrtcGetCUBIN(void *program, char *cubin) {
  Program *p = (Program *)program;
  unsigned long long bytes = p->image.size();
  memcpy(cubin, "FLOWSHIM", 8);
  memcpy(cubin + 8, &bytes, 8);
  memcpy(cubin + 16, p->key.data(), 32);
  memcpy(cubin + 48, p->image.data(), bytes);
  return success;
}
EXPORT int nvrtcGetProgramLogSize(void *program, size_t *bytes) {
  *bytes = ((Program *)program)->log.size() + 1;
  return success;
}
EXPORT int nvrtcGetProgramLog(void *program, char *log) {
  strcpy(log, ((Program *)program)->log.c_str());
  return success;
}
