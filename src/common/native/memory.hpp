// Memory that calls hand on to each other: pages that the system has given need not be asked for again.
#pragma once

#include <cstddef>

namespace rnn {

// So many bytes, a multiple of 64, at the alignment of vectors; or NULL.
void* take(size_t bytes);

// Takes back what `take` gave.
void give(void* data, size_t bytes);

}  // namespace rnn
