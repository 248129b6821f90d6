// The Python module of all kernels. A kernel works on the slab begin..end - 1 of its first argument's axis; see over_slabs in
// anamorph/runtime/threads.py.
#include "array.h"

#ifdef _MSC_VER
#define NOMINMAX
#include <windows.h>
#endif

void define_averaging(nb::module_ &);
void define_convolution(nb::module_ &);
void define_correlation(nb::module_ &);
void define_fields(nb::module_ &);
void define_folding(nb::module_ &);
void define_gauss_newton(nb::module_ &);
void define_hamming_cost(nb::module_ &);
void define_inversion(nb::module_ &);
void define_labels(nb::module_ &);
void define_layer_codes(nb::module_ &);
void define_mind_ssc(nb::module_ &);
void define_optimise(nb::module_ &);
void define_poses(nb::module_ &);
void define_sampling(nb::module_ &);
void define_search(nb::module_ &);
void define_thin_plate(nb::module_ &);
void define_tree_inference(nb::module_ &);

namespace {

// The instruction set of this processor that a variant of this module exists for.
const char *instruction_set() {
#if (defined(__x86_64__) || defined(_M_X64)) && defined(__GNUC__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return "avx512";
    if (avx2) return "avx2";
#elif defined(_M_X64)
    if (IsProcessorFeaturePresent(PF_AVX2_INSTRUCTIONS_AVAILABLE)) return "avx2";
#endif
    return "";
}

}  // namespace

NB_MODULE(ANAMORPH_MODULE, module) {
    module.attr("interface") = 3;  // to be raised, here and in runtime/compiled.py, when what a kernel takes or means changes
    module.def("instruction_set", instruction_set);
    define_averaging(module);
    define_convolution(module);
    define_correlation(module);
    define_fields(module);
    define_folding(module);
    define_gauss_newton(module);
    define_hamming_cost(module);
    define_inversion(module);
    define_labels(module);
    define_layer_codes(module);
    define_mind_ssc(module);
    define_optimise(module);
    define_poses(module);
    define_sampling(module);
    define_search(module);
    define_thin_plate(module);
    define_tree_inference(module);
}
