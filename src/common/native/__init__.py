"""The kernels in C++ behind the engine `native` of either twin: a cell over time and back-propagation through time.

`recurrent.h` is what a framework calls, `cells.hpp` has the equations, `forward.hpp` and `backward.hpp` run them over time,
`product.hpp` adds up the matrix products and `vector.hpp` has σ and tanh. `level.cpp` is compiled once for each instruction set.
"""
