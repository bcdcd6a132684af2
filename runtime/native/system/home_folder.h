// The user's home folder.
#pragma once

#include <string>

namespace sgmf {

// That of HOME, else of the system's list of users; empty where neither names one.
std::string home_folder();

}  // namespace sgmf
