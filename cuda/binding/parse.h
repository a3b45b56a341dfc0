// JS values into plain structs. Everything is checked here by type and name; ranges are the
// engine's business.
#pragma once

#include <napi.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/options.h"
#include "train/trainer.h"

namespace spotlight {

// Each throws Error INVALID_ARGUMENT naming the field.
AttentionSettings parse_attention(const Napi::Object& object);
EngineOptions parse_engine_options(const Napi::Object& object);
SequenceOptions parse_sequence_options(const Napi::Object& object);
train::TrainerOptions parse_trainer_options(const Napi::Object& object);
train::TrainerState parse_trainer_state(const Napi::Object& object);
int32_t parse_slot(const Napi::Value& value);
// A number, a whole one from 0 to 2^53 - 1.
uint64_t parse_seed(const Napi::Value& value, const std::string& field);
std::string parse_text(const Napi::Value& value, const std::string& field);
// An array or Int32Array of integers.
std::vector<int32_t> parse_integers(const Napi::Value& value, const std::string& field);

}  // namespace spotlight
