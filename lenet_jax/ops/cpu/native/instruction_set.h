// The namespace of this compilation: avx512, avx2 or baseline, given by the build with -DLENET_JAX_INSTRUCTION_SET=...
#pragma once

#ifndef LENET_JAX_INSTRUCTION_SET
#error "compile with -DLENET_JAX_INSTRUCTION_SET=avx512, avx2 or baseline"
#endif
