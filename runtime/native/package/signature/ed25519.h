// Signatures of Ed25519 (RFC 8032): their checking alone, of public data, so that time may depend
// on them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "package/signature/field25519.h"

namespace sgmf {

using Signature = std::array<uint8_t, 64>;

// Whether 32 bytes can be a public key: a point in its one encoding, of large order.
bool is_public_key(const Bytes32& key);

// Whether `signature` is that of `key` for a message. Stricter than the RFC: a key or a signature's
// point in a second encoding or of small order, and a scalar that is not reduced, are refused, so
// that a signature has one form and no key signs everything.
bool has_signed(const Bytes32& key, const void* message, std::size_t size,
                const Signature& signature);

}  // namespace sgmf
