// nearest D K FILE [REFERENCE]: for each row of a file of float32 rows of width D its K nearest, "index:distance",
// among the others or among those of REFERENCE.
#include <clipscan/knn.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

std::vector<float> read(const char* path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error(std::string("cannot read ") + path);
  std::vector<float> numbers(size_t(file.tellg()) / sizeof(float));
  file.seekg(0).read(reinterpret_cast<char*>(numbers.data()), std::streamsize(numbers.size() * sizeof(float)));
  return numbers;
}

int main(int count, char** word) try {
  if (count < 4) throw std::runtime_error("usage: nearest D K FILE [REFERENCE]");
  const int64_t d = std::atoll(word[1]), k = std::atoll(word[2]);
  const auto rows = [d](const std::vector<float>& x) { return clipscan::Rows{x.data(), d > 0 ? int64_t(x.size()) / d : 0, d}; };
  const std::vector<float> queries = read(word[3]), reference = count > 4 ? read(word[4]) : queries;
  const clipscan::Table table = count > 4 ? clipscan::knn(rows(queries), rows(reference), k) : clipscan::knn(rows(queries), k);
  for (int64_t i = 0; i < table.n * k; ++i)
    std::printf("%lld:%.9g%c", (long long)table.index[i], table.distance[i], (i + 1) % k ? ' ' : '\n');
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
