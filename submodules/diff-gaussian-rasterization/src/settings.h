// Reads RasterizerSettings from a Python dict by name; Python has checked them.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "argument_error.h"
#include "splat/camera.h"

namespace splat {

template <class V>
V value(const nanobind::dict& settings, const char* name) {
  return nanobind::cast<V>(settings[name]);
}

// Everything but the pose.
template <class T>
Camera<T> camera_from(const nanobind::dict& settings) {
  Camera<T> camera{};
  camera.width = value<int>(settings, "width");
  camera.height = value<int>(settings, "height");
  camera.fx = T(value<double>(settings, "fx"));
  camera.fy = T(value<double>(settings, "fy"));
  camera.cx = T(value<double>(settings, "cx"));
  camera.cy = T(value<double>(settings, "cy"));
  camera.near_plane = T(value<double>(settings, "near"));
  camera.low_pass = T(value<double>(settings, "low_pass"));
  camera.antialiased = value<bool>(settings, "antialiased");
  set_ray_limits(camera);
  return camera;
}

template <class T>
void set_background(T (&background)[3], const nanobind::dict& settings) {
  const nanobind::handle given = settings["background"];
  const nanobind::tuple colors(given);  // converts any sequence
  if (colors.size() != 3)
    throw argument_error("a background of 3 numbers", std::to_string(colors.size()),
                         "give red, green and blue");
  for (int c = 0; c < 3; ++c) background[c] = T(nanobind::cast<double>(colors[c]));
}

}  // namespace splat
