// Launches that were recorded from a run on the emulator (FLOW_SHIM_RECORD), done again under -fsanitize=thread:
// `races MODULE.so LAUNCH …`, each module compiled from the text of the recorded one.
#include "shim.hpp"
#include "entries.hpp"

#include <dlfcn.h>

#include <fstream>

struct Launch {
  shim::Request request;
  std::vector<std::vector<char>> values;
  std::vector<void *> arguments;
  std::vector<std::pair<char *, size_t>> memory;

  explicit Launch(const char *path) {
    std::ifstream file(path, std::ios::binary);
    auto take = [&](auto &value) { file.read((char *)&value, sizeof value); };
    unsigned count = 0, size = 0;
    take(request.grid), take(request.size), take(request.shared), take(count);
    for (unsigned i = 0; i < count && file; i++) {
      take(size);
      values.emplace_back(size);
      file.read(values.back().data(), size);
    }
    for (auto &value : values) arguments.push_back(value.data());
    unsigned long long number = 0, start = 0, bytes = 0;
    take(number);
    for (unsigned long long i = 0; i < number && file; i++) {
      take(start), take(bytes);
      char *place = (char *)mmap(
          (void *)start, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      if (place != (char *)start) {
        fprintf(stderr, "%s: its memory's place is taken\n", path);
        exit(2);
      }
      memory.push_back({place, bytes});
      for (size_t at = 0; at < bytes; at += 4096) {
        char same = 0, first = 0;
        take(same);
        if (same) {
          take(first);
          memset(place + at, first, 4096);
        } else {
          file.read(place + at, 4096);
        }
      }
    }
    if (!file) {
      fprintf(stderr, "%s is cut short\n", path);
      exit(2);
    }
  }
  ~Launch() {
    for (auto &part : memory) munmap(part.first, part.second);
  }
};

int main(int count, char **words) {
  int failures = 0;
  for (int i = 1; i + 1 < count; i += 2) {
    void *library = dlopen(words[i], RTLD_NOW | RTLD_LOCAL);
    auto entries = library ? (const shim_entry *)dlsym(library, "shim_entries") : nullptr;
    if (!entries) {
      fprintf(stderr, "%s: %s\n", words[i], dlerror());
      return 2;
    }
    std::string path = words[i + 1], name = path.substr(path.rfind('/') + 1);
    // DIGEST-NAME.launch
    name = name.substr(33, name.size() - 33 - 7);
    while (entries->name && name != entries->name) entries++;
    if (!entries->name) {
      fprintf(stderr, "%s has no kernel %s\n", words[i], name.c_str());
      return 2;
    }
    fprintf(stderr, "launch %s\n", path.c_str());
    Launch launch(words[i + 1]);
    struct Call {
      const shim_entry *entry;
      void **arguments;
    } call = {entries, launch.arguments.data()};
    launch.request.body = [](void *call) { ((Call *)call)->entry->call(((Call *)call)->arguments); };
    launch.request.context = &call;
    std::string error = shim::run(launch.request);
    if (!error.empty()) fprintf(stderr, "%s: %s\n", name.c_str(), error.c_str()), failures++;
  }
  return failures != 0;
}
