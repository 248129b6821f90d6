// Arrays of NumPy as the kernels see them, and the definition of a kernel in Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace nb = nanobind;

using Index = std::ptrdiff_t;
using Triple = std::array<Index, 3>;

// A C-contiguous array in main memory as plain numbers and a shape; `const T` where the kernel only reads it.
template <typename T, int Axes>
struct Array {
    T *data;
    Index shape[Axes];

    // Where the numbers under the first indices begin: `at(i, j)` of a volume is the row (i, j).
    template <typename... Indices>
    T *at(Indices... indices) const {
        static_assert(sizeof...(indices) <= Axes);
        Index offset = 0;
        int axis = 0;
        ((offset = offset * shape[axis] + Index(indices), ++axis), ...);
        for (; axis < Axes; ++axis) offset *= shape[axis];
        return data + offset;
    }

    template <typename... Indices>
    T &operator()(Indices... indices) const {
        static_assert(sizeof...(indices) == Axes);
        return *at(indices...);
    }
};

// Arrays are taken as they are, of the very type and order: a silent copy would cost time, or lose what the kernel writes.
template <typename T, int Axes>
struct nb::detail::type_caster<Array<T, Axes>> {
    using Given = make_caster<ndarray<T, nb::ndim<Axes>, c_contig, device::cpu>>;
    using Kernel = Array<T, Axes>;
    NB_TYPE_CASTER(Kernel, Given::Name)

    bool from_python(handle source, std::uint8_t, cleanup_list *cleanup) noexcept {
        Given given;
        if (!given.from_python(source, 0, cleanup)) return false;
        value.data = given.value.data();
        for (int axis = 0; axis < Axes; ++axis) value.shape[axis] = Index(given.value.shape(axis));
        return true;
    }
};

// Make a function callable from Python, without the interpreter's lock. One name may be given to several types of arrays.
template <typename Function>
void define(nb::module_ &module, const char *name, Function *function) {
    module.def(name, function, nb::call_guard<nb::gil_scoped_release>());
}

// Call a function with a value of every type that labels may have.
template <typename Function>
void for_each_label(Function function) {
    function(std::uint8_t{}), function(std::int8_t{}), function(std::uint16_t{}), function(std::int16_t{});
    function(std::uint32_t{}), function(std::int32_t{}), function(std::uint64_t{}), function(std::int64_t{});
}

// Call a function with a value of every type that voxels may have.
template <typename Function>
void for_each_scalar(Function function) {
    function(float{}), function(double{}), function(bool{});
    for_each_label(function);
}
