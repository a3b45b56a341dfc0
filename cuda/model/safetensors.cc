// open_safetensors: a Hugging Face folder, its weights in one file or in shards named by an index.
// Types are handed on as they are; nothing is un-permuted, since this format already keeps RoPE in
// half-split order.
#include <ggml.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "error.h"
#include "model/hf_config.h"
#include "model/json.h"
#include "model/loaded_weights.h"
#include "model/safetensors_file.h"

namespace spotlight {
namespace {

bool exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// All tensors of the folder, by name, with the file each lies in.
struct Tensors {
  std::map<std::string, std::pair<SafetensorsTensor, std::string>> by_name;
  std::vector<SafetensorsFile> files;
};

Tensors open_shards(const std::string& folder) {
  const JsonObject index = JsonObject::read(folder + "/model.safetensors.index.json");
  const auto map = index.object("weight_map");
  if (!map) index.wrong("weight_map", "is missing");
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [tensor, shard] : map->json().items()) {
    if (!shard.is_string()) map->wrong(tensor, "is not a file's name");
    const auto& name = shard.get_ref<const std::string&>();
    if (name.find('/') != std::string::npos || !ends_with(name, ".safetensors"))
      map->wrong(tensor, "lies in " + name + ", which is not a .safetensors file of the folder");
    shards[name].insert(tensor);
  }
  Tensors tensors;
  for (const auto& [shard, names] : shards) {
    const std::string path = folder + "/" + shard;
    if (!exists(path))
      throw Error(kModelNotFound, path + ": missing, though model.safetensors.index.json lists it");
    tensors.files.emplace_back(path, kModelNotFound, kModelCorrupt);
    for (const std::string& name : names) {
      const auto tensor = tensors.files.back().tensors().find(name);
      if (tensor == tensors.files.back().tensors().end())
        throw Error(kModelCorrupt,
                    path + ": tensor " + name +
                        " is missing, though model.safetensors.index.json lists it here");
      tensors.by_name[name] = {tensor->second, path};
    }
  }
  return tensors;
}

Tensors open_tensors(const std::string& folder) {
  const std::string single = folder + "/model.safetensors";
  if (exists(single)) {
    Tensors tensors;
    tensors.files.emplace_back(single, kModelNotFound, kModelCorrupt);
    for (const auto& [name, tensor] : tensors.files.back().tensors())
      tensors.by_name[name] = {tensor, single};
    return tensors;
  }
  if (exists(single + ".index.json")) return open_shards(folder);
  if (exists(folder + "/pytorch_model.bin") || exists(folder + "/pytorch_model.bin.index.json"))
    throw Error(kModelUnsupported,
                folder + ": pytorch_model.bin is not read; convert it to safetensors");
  throw Error(kModelNotFound,
              folder + ": holds neither model.safetensors nor model.safetensors.index.json");
}

class SafetensorsWeights : public LoadedWeights {
 public:
  explicit SafetensorsWeights(const std::string& folder) {
    config_ = read_hugging_face_config(folder);
    Tensors tensors = open_tensors(folder);
    const bool biased = tensors.by_name.count("model.layers.0.self_attn.q_proj.bias") > 0;
    config_.qkv_bias = config_.qkv_bias || biased;
    std::set<std::string> known;
    for (const PlannedWeight& planned : plan_weights(config_)) {
      known.insert(planned.hugging_face);
      const auto found = tensors.by_name.find(planned.hugging_face);
      if (found == tensors.by_name.end())
        throw Error(kModelCorrupt, folder + ": tensor " + planned.hugging_face + " is missing");
      const auto& [tensor, path] = found->second;
      add(planned, view_of(tensor, path, planned.hugging_face),
          path + ": tensor " + planned.hugging_face);
    }
    for (const auto& [name, entry] : tensors.by_name)
      if (known.count(name) == 0 && !is_redundant(name))
        throw Error(kModelUnsupported, entry.second + ": tensor " + name +
                                           " is no part of a supported " + config_.architecture +
                                           " model");
    for (SafetensorsFile& file : tensors.files) keep(file.release());
  }

 private:
  // Stored by some writers, though the config already says it.
  bool is_redundant(const std::string& name) const {
    return ends_with(name, ".rotary_emb.inv_freq") ||
           (config_.tied_embeddings && name == "lm_head.weight");
  }

  static WeightView view_of(const SafetensorsTensor& tensor, const std::string& path,
                            const std::string& name) {
    const int type = ggml_type_of(tensor.dtype);
    if (type < 0)
      throw Error(kModelUnsupported, path + ": tensor " + name + " has dtype " + tensor.dtype +
                                         "; supported: F32, F16, BF16");
    if (tensor.shape.empty() || tensor.shape.size() > 2)
      throw Error(kModelCorrupt, path + ": tensor " + name + " has " +
                                     std::to_string(tensor.shape.size()) + " dimensions");
    const int64_t rows = tensor.shape.size() == 2 ? tensor.shape[0] : 1;
    return {type, tensor.shape.back(), rows, tensor.data, tensor.bytes};
  }
};

}  // namespace

std::unique_ptr<WeightFile> open_safetensors(const std::string& folder) {
  struct stat info;
  if (stat(folder.c_str(), &info) != 0)
    throw Error(kModelNotFound, folder + ": " + std::strerror(errno));
  if (!S_ISDIR(info.st_mode))
    throw Error(kModelNotFound, folder + ": not a folder; give the folder that holds config.json");
  return std::make_unique<SafetensorsWeights>(folder);
}

}  // namespace spotlight
