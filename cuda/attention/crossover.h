// From which context on retrieval beats dense attention where nobody has said otherwise: the one
// place that knows it of each kind of device. A context is what decides, of each row alone: rows
// that share a step would have retrieval win earlier, but then a token would depend on who decodes
// beside it, and a request run again elsewhere would differ.
#pragma once

#include <cstdint>
#include <string>

namespace spotlight {

// Tokens. device: "cpu" or "cuda"; isa: the device's, "sm_90" of a GPU; kv_width: values of K a
// token has in one layer (KV heads times head_dim).
int32_t default_crossover(const std::string& device, const std::string& isa, int32_t kv_width);

}  // namespace spotlight
