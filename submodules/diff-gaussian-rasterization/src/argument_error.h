// The exceptions for arguments that do not fit: what was expected, what was found, what to do.
#pragma once

#include <cstddef>
#include <sstream>
#include <stdexcept>
#include <string>

namespace splat {

// A number as text, NaN and infinity included.
template <class T>
std::string text(const T& number) {
  std::ostringstream out;
  out << number;
  return out.str();
}

// The shape of an array: [3, 17].
template <class Array>
std::string shape(const Array& array) {
  std::string sizes;
  for (size_t i = 0; i < array.ndim(); ++i) sizes += (i ? ", " : "") + std::to_string(array.shape(i));
  return "[" + sizes + "]";
}

// To be thrown; Python sees a ValueError.
inline std::invalid_argument argument_error(const std::string& expected, const std::string& found,
                                            const std::string& remedy) {
  return std::invalid_argument("expected " + expected + ", found " + found + ": " + remedy);
}

}  // namespace splat
