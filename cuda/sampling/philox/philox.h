// Philox4x32-10 (Salmon et al., 2011): random numbers as a pure function of key and counter. A draw
// is thereby independent of batch, row and thread, and alike on every device; seeds and replay rest
// on that.
#pragma once

#include <array>
#include <cstdint>

#include "sampling/exact.h"

namespace spotlight {

using PhiloxBlock = std::array<uint32_t, 4>;

SPOTLIGHT_BOTH PhiloxBlock philox4x32_10(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; round++) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// The draw of one token, in [0, 1) with 53 bits: key = seed, counter = (position, choice).
SPOTLIGHT_BOTH double philox_uniform(uint64_t seed, uint64_t choice, uint64_t position) {
  const PhiloxBlock block =
      philox4x32_10({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                     static_cast<uint32_t>(choice), static_cast<uint32_t>(choice >> 32)},
                    static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  return (uint64_t{block[0] >> 5} * (uint64_t{1} << 26) + (block[1] >> 6)) * 0x1p-53;
}

}  // namespace spotlight
