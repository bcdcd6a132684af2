#include "package/typed_json.h"

#include <algorithm>
#include <set>

#include "package/package_error.h"
#include "package/printable.h"

namespace sgmf {
namespace {

// Where the Python interpreter gives up by itself; a manifest has six levels.
constexpr int deepest = 500;
constexpr std::size_t longest_shown = 60;

// A value on one line, without control characters and not too long.
std::string shown(const Json& value) {
  std::string text = value.is_structured() && value.size() > longest_shown
                         ? (value.is_object() ? "a large object" : "a long list")
                         : value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > longest_shown) text = text.substr(0, longest_shown) + "...";
  return text;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// Refuses what is not JSON, keys that stand twice in one object, of which a parser keeps the last,
// and depths at which recursion over the document would exhaust the stack. A pass of its own: the
// parser's callbacks would look through all that stands beside an object whenever one ends.
class Strictness : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }

  bool start_object(std::size_t) override {
    keys_.emplace_back();
    return enter();
  }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    throw PackageError("the key " + shown(Json(name)) + " stands twice in one object");
  }
  bool end_object() override {
    keys_.pop_back();
    return leave();
  }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    throw PackageError(printable(error.what(), 200));
  }

 private:
  bool enter() {
    if (++depth_ > deepest) throw PackageError("it is nested too deeply");
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }

  int depth_ = 0;
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

Json load_json(const std::string& text, const std::string& name) {
  try {
    Strictness strictness;
    Json::sax_parse(text, &strictness);
    return Json::parse(text);
  } catch (const PackageError& error) {
    throw PackageError(name + " is not JSON: " + error.what());
  } catch (const Json::exception& error) {
    throw PackageError(name + " is not JSON: " + printable(error.what(), 200));
  }
}

Json load_json_object(const std::string& text, const std::string& name) {
  Json document = load_json(text, name);
  if (!document.is_object()) {
    throw PackageError(name + " holds " + shown(document) + "; expected one JSON object");
  }
  return document;
}

void Field::expect_fields(std::initializer_list<const char*> needed,
                          std::initializer_list<const char*> others) const {
  if (!value_->is_object()) refuse("an object");
  const auto known = [&](const std::string& name) {
    return std::count(needed.begin(), needed.end(), name) +
           std::count(others.begin(), others.end(), name);
  };
  std::vector<std::string> unknown;
  for (const auto& entry : value_->items()) {
    if (!known(entry.key())) unknown.push_back(shown(Json(entry.key())));
  }
  if (!unknown.empty() && !ignore_unknown_) {
    throw PackageError(place_ + " has unknown fields: " + joined(unknown));
  }
  std::vector<std::string> missing;
  for (const char* name : needed) {
    if (!has(name)) missing.emplace_back(name);
  }
  if (!missing.empty()) throw PackageError(place_ + " lacks " + joined(missing));
}

Field Field::at(const char* name) const {
  return {value_->at(name), place_ + "." + name, ignore_unknown_};
}

std::vector<std::pair<std::string, Field>> Field::mapping() const {
  if (!value_->is_object()) refuse("an object");
  std::vector<std::pair<std::string, Field>> entries;
  for (const auto& entry : value_->items()) {
    entries.emplace_back(entry.key(), Field(entry.value(), place_ + "." + shown(Json(entry.key())),
                                            ignore_unknown_));
  }
  return entries;
}

std::vector<Field> Field::list() const {
  if (!value_->is_array()) refuse("a list");
  std::vector<Field> entries;
  for (std::size_t i = 0; i < value_->size(); ++i) {
    entries.emplace_back((*value_)[i], place_ + "[" + std::to_string(i) + "]", ignore_unknown_);
  }
  return entries;
}

std::vector<Field> Field::list(std::size_t count) const {
  if (value_->is_array() && value_->size() != count) refuse(std::to_string(count) + " entries");
  return list();
}

std::string Field::text() const {
  if (!value_->is_string()) refuse("a text");
  return value_->get<std::string>();
}

std::size_t Field::one_of(std::initializer_list<const char*> known) const {
  const auto found =
      value_->is_string() ? std::find(known.begin(), known.end(), text()) : known.end();
  if (found == known.end()) refuse("one of " + joined({known.begin(), known.end()}));
  return static_cast<std::size_t>(found - known.begin());
}

int64_t Field::integer() const {
  if (!value_->is_number_integer()) refuse("an integer");
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > INT64_MAX) {
    refuse("an integer of ordinary size");
  }
  return value_->get<int64_t>();
}

double Field::number() const {
  if (!value_->is_number()) refuse("a number");
  return value_->get<double>();
}

bool Field::boolean() const {
  if (!value_->is_boolean()) refuse("true or false");
  return value_->get<bool>();
}

void Field::refuse(const std::string& expected) const {
  throw PackageError(place_ + " is " + shown(*value_) + "; expected " + expected);
}

}  // namespace sgmf
