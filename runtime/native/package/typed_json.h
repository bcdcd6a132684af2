// JSON read field by field, every value checked against its expected type; a wrong value is named
// by its place, such as manifest.tiling.tile[2]. Mirrors runtime/package/typed_json.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace sgmf {

using Json = nlohmann::json;

// Strict JSON: no key twice in an object, every number finite. Throws PackageError, in which the
// document is called `name`.
Json load_json(const std::string& text, const std::string& name);

// The same, of one object.
Json load_json_object(const std::string& text, const std::string& name);

// A value inside a document, which has to outlive it, and its place. Readers throw PackageError.
class Field {
 public:
  Field(const Json& value, std::string place, bool ignore_unknown)
      : value_(&value),
        place_(std::move(place)),
        ignore_unknown_(ignore_unknown) {}

  // Checks that the value is an object with all `needed` fields and beyond them only `others`;
  // unknown fields may be ignored. To be called before `at` and `has`.
  void expect_fields(std::initializer_list<const char*> needed,
                     std::initializer_list<const char*> others = {}) const;
  bool has(const char* name) const { return value_->contains(name); }
  // Whether the field is there and not null.
  bool is_set(const char* name) const { return has(name) && !value_->at(name).is_null(); }
  bool is_null() const { return value_->is_null(); }
  Field at(const char* name) const;

  std::vector<std::pair<std::string, Field>> mapping() const;
  std::vector<Field> list() const;
  std::vector<Field> list(std::size_t count) const;
  std::string text() const;
  // Place of the text among the known ones.
  std::size_t one_of(std::initializer_list<const char*> known) const;
  int64_t integer() const;
  double number() const;
  bool boolean() const;

 private:
  [[noreturn]] void refuse(const std::string& expected) const;

  const Json* value_;
  std::string place_;
  bool ignore_unknown_;
};

}  // namespace sgmf
