"""The attention kernels alone, on a GPU with PyTorch: each compared with float64, then timed at the model's size beside
PyTorch's own attention.

    attention.py [--runs N]

Kernels are compiled here by NVRTC from Sources/CCUDA/kernels. A line per kernel: median milliseconds by device events,
and the TFLOP/s of what the mask allows (4 N M D a head forward, 14 backward as it is done).
"""
import argparse
import ctypes
import functools
import glob
import math
import os
import re
import statistics
import sys

import torch
import torch.nn.functional as F

import peer_transformer as transformer

DEVICE = "cuda"
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../Sources/CCUDA/kernels")


def library(name, *patterns):
    found = [path for folder in sys.path for p in patterns for path in sorted(glob.glob(os.path.join(folder, p)))]
    for path in [name] + found:
        try:
            return ctypes.CDLL(path)
        except OSError:
            pass
    sys.exit(f"no {name} was found")


CUDA = library("libcuda.so.1")
NVRTC = library("libnvrtc.so", "nvidia/*/lib/libnvrtc.so.*[0-9]", "/usr/local/cuda*/lib64/libnvrtc.so")


def check(status, what):
    if status != 0:
        sys.exit(f"{what}: status {status}")


def parts_before(file):
    """The files that stand before it, as kernels.c has them."""
    with open(os.path.join(FOLDER, "../kernels.c")) as table:
        found = re.search(r'{"%s\.cu", \w+, "([^"]+)"}' % re.escape(file), table.read())
    return found[1].split("+") if found else []


class Kernel:
    """An entry of a file; its arguments are tensors, ints (32 bits), floats, and lists of ints (64 bits each)."""

    def __init__(self, file, entry, defines=(), shared=0):
        names = ["prelude.cuh"] + ["hopper.cuh"] * ("FLOW_SM90A" in defines) + parts_before(file) + [file + ".cu"]
        text = "\n".join(open(os.path.join(FOLDER, name)).read() for name in names).encode()
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        check(NVRTC.nvrtcCreateProgram(ctypes.byref(program), text, b"k.cu", 0, None, None), "nvrtcCreateProgram")
        major, minor = torch.cuda.get_device_capability()
        arch = f"-arch=sm_{major}{minor}" + ("a" if major >= 9 else "")
        options = [o.encode() for o in [arch, "-std=c++17"] + ["-D" + d for d in defines]]
        status = NVRTC.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        if status != 0:
            NVRTC.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            NVRTC.nvrtcGetProgramLog(program, log)
            sys.exit(log.value.decode())
        NVRTC.nvrtcGetCUBINSize(program, ctypes.byref(size))
        image = ctypes.create_string_buffer(size.value)
        NVRTC.nvrtcGetCUBIN(program, image)
        module, self.function = ctypes.c_void_p(), ctypes.c_void_p()
        check(CUDA.cuModuleLoadData(ctypes.byref(module), image), "cuModuleLoadData")
        check(CUDA.cuModuleGetFunction(ctypes.byref(self.function), module, entry.encode()), "cuModuleGetFunction")
        check(CUDA.cuFuncSetAttribute(self.function, 8, shared), "cuFuncSetAttribute")
        self.shared = shared

    def __call__(self, grid, threads, *arguments):
        values = []
        for a in arguments:
            if isinstance(a, torch.Tensor):
                values.append(ctypes.c_void_p(a.data_ptr()))
            elif isinstance(a, ctypes.Array):
                values.append(a)
            elif isinstance(a, float):
                values.append(ctypes.c_float(a))
            elif isinstance(a, (list, tuple)):
                values += [ctypes.c_longlong(x) for x in a]
            else:
                values.append(ctypes.c_int(a))
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        check(CUDA.cuLaunchKernel(self.function, *grid, threads, 1, 1, self.shared, stream, pointers, None), "launch")


@functools.cache
def known_kernel(*arguments):
    return Kernel(*arguments)


def kernel(file, entry, defines=(), shared=0):
    return known_kernel(file, entry, tuple(defines), shared)


def tiles(count):
    return (count + 63) // 64


def tensor_map(x):
    """What the copy engine is told of x [B, H, N, D]: boxes of 64 x 64, swizzled by 128 bytes."""
    space = (ctypes.c_uint64 * 24)()
    # Its address is to be a multiple of 64.
    start = -ctypes.addressof(space) % 64
    made = (ctypes.c_uint64 * 16).from_buffer(space, start)
    b, h, n, d = x.shape
    sizes = (ctypes.c_uint64 * 4)(d, n, h, b)
    steps = (ctypes.c_uint64 * 3)(*[x.stride(i) * 2 for i in (2, 1, 0)])
    boxes, ones = (ctypes.c_uint32 * 4)(64, 64, 1, 1), (ctypes.c_uint32 * 4)(1, 1, 1, 1)
    check(CUDA.cuTensorMapEncodeTiled(made, 9, 4, ctypes.c_void_p(x.data_ptr()), sizes, steps, boxes, ones, 0, 3, 3, 0),
          "cuTensorMapEncodeTiled")
    return made


SLOTS = 8


class Body:
    """A kind of kernels: `rows` times 64 queries or `columns` times 64 keys a block."""

    def __init__(self, bulk, defines=()):
        self.bulk, self.defines = bulk, list(defines)
        self.rows, self.columns = (2, 2) if bulk else (1, 1)
        self.title = " ".join(["wgmma, copies by the engine" if bulk else "mma.sync", *self.defines])


class Case:
    """Inputs, poisoned outputs and the launches of one size; `mask` [B or 1, 1, N, M]."""

    def __init__(self, b, h, n, m, d, mask, body):
        def random(*shape):
            return torch.randn(*shape, device=DEVICE).bfloat16()

        self.size, self.mask = (b, h, n, m, d), mask.to(DEVICE).contiguous()
        self.q, self.k, self.v, self.g = random(b, h, n, d), random(b, h, m, d), random(b, h, m, d), random(b, h, n, d)
        self.o, self.dq, self.dk, self.dv = (torch.full_like(x, math.nan) for x in (self.q, self.q, self.k, self.v))
        self.logarithms = torch.full((b, h, n), math.nan, device=DEVICE)
        self.numbers = torch.full((b, h, tiles(n) * 64, 2), math.nan, device=DEVICE)
        masks = mask.shape[0]
        self.bits = [torch.empty(masks, n, tiles(m), dtype=torch.int64, device=DEVICE),
                     torch.empty(masks, m, tiles(n), dtype=torch.int64, device=DEVICE)]
        self.rows, self.columns = body.rows, body.columns
        # Lists of rows, columns, groups of rows and of columns, as attention-mask.cu has them.
        parts = [(-(-tiles(n) // g), tiles(m) + 1) if of_rows else (-(-tiles(m) // g), tiles(n) + 1)
                 for of_rows, g in [(True, 1), (False, 1), (True, self.rows), (False, self.columns)]]
        self.lists = torch.empty(masks * sum(a * b for a, b in parts), dtype=torch.int32, device=DEVICE)
        self.list_count = masks * sum(a for a, _ in parts)
        self.row_list, self.column_list = self.lists.split([masks * a * b for a, b in parts])[2:]
        self.kinds = torch.empty(masks, tiles(n), tiles(m), dtype=torch.uint8, device=DEVICE)
        defines = body.defines + [f"WIDTH={d}", f"D={64 if d <= 64 else 128}", "TO=bf16", "TG=bf16"]
        rows, columns = [f"GROUPS={self.rows}"], [f"GROUPS={self.columns}"]
        tile = (d + 63) // 64 * 8192
        self.mask_tiles = kernel("attention-mask", "mask_tiles")
        self.mask_lists = kernel("attention-mask", "mask_lists")
        self.attention_numbers = kernel("attention-numbers", "attention_numbers", ["TR=bf16", "TG=bf16", "WIDE=4"])
        if body.bulk:
            defines += [f"SLOTS={SLOTS}", "FLOW_SM90A"]
        # Own tiles, and those that walk past, of forward, keys and queries.
        own, walking = (self.rows, 2 * self.columns, 2 * self.rows), SLOTS if body.bulk else 4
        sizes = [(own[i] + walking) * tile + (0, 2048, 2048)[i] + 512 for i in range(3)]
        end = ("-bulk", "_bulk") if body.bulk else ("", "")
        self.attention = kernel("attention" + end[0], "attention" + end[1], defines + rows, sizes[0])
        self.keys = kernel("attention-back" + end[0], "attention_back_keys" + end[1], defines + columns + ["OF_KEYS=1"],
                           sizes[1])
        self.queries = kernel("attention-back" + end[0], "attention_back_queries" + end[1],
                              defines + rows + ["OF_KEYS=0"], sizes[2])
        self.more = 128 if body.bulk else 0
        inputs = (self.q, self.k, self.v, self.g)
        self.inputs = [tensor_map(x) for x in inputs] if body.bulk else list(inputs)
        self.input_steps = [] if body.bulk else list(inputs)

    def summary(self):
        b, h, n, m, d = self.size
        masks = self.mask.shape[0]
        self.mask_tiles((tiles(m), tiles(n), masks), 256, self.mask, *self.bits, self.kinds, n, m)
        self.mask_lists(((self.list_count + 127) // 128, 1, 1), 128, self.kinds, self.lists, masks, tiles(n), tiles(m),
                        self.rows, self.columns)

    def tail(self, *tensors):
        b, h, n, m, d = self.size
        return [1 / math.sqrt(d), n, m, int(self.mask.shape[0] > 1), 0] + [list(t.stride()[:3]) for t in tensors]

    def forward(self):
        b, h, n, m, d = self.size
        self.attention((h, -(-tiles(n) // self.rows), b), 128 * self.rows + self.more, *self.inputs[:3], self.o,
                       self.logarithms, self.bits[0], self.row_list, *self.tail(*self.input_steps[:3], self.o))

    def back_numbers(self):
        b, h, n, m, d = self.size
        self.attention_numbers((tiles(n) * 8, h, b), 256, self.o, self.g, self.logarithms, self.numbers, n, d,
                               list(self.o.stride()[:3]), list(self.g.stride()[:3]))

    def back_keys(self):
        b, h, n, m, d = self.size
        self.keys((h, -(-tiles(m) // self.columns), b), 128 * self.columns + self.more, *self.inputs,
                  self.numbers, self.dk, self.dv, self.bits[1], self.column_list,
                  *self.tail(*self.input_steps, self.dk, self.dv))

    def back_queries(self):
        b, h, n, m, d = self.size
        self.queries((h, -(-tiles(n) // self.rows), b), 128 * self.rows + self.more, *self.inputs, self.numbers,
                     self.dq, self.bits[0], self.row_list, *self.tail(*self.input_steps, self.dq))

    def all(self):
        for step in (self.summary, self.forward, self.back_numbers, self.back_keys, self.back_queries):
            step()

    def errors(self):
        """Of the result and the gradients against float64, relative."""
        q, k, v, g = (x.double() for x in (self.q, self.k, self.v, self.g))
        for x in (q, k, v):
            x.requires_grad_()
        scores = (q @ k.transpose(2, 3) / math.sqrt(self.size[4])).masked_fill(~self.mask, -math.inf)
        weights = scores.softmax(-1).masked_fill(~self.mask.any(-1, keepdim=True), 0)
        result = weights @ v
        wanted = [result.detach(), *torch.autograd.grad(result, (q, k, v), g)]
        found = (self.o, self.dq, self.dk, self.dv)
        return [((a.double() - w).norm() / w.norm()).item() for a, w in zip(found, wanted)]


def median(body, runs):
    for _ in range(3):
        body()
    times = []
    for _ in range(runs):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        body()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    torch.manual_seed(int.from_bytes(os.urandom(4), "little"))
    torch.empty(1, device=DEVICE)
    print(torch.cuda.get_device_name())
    bodies = [Body(False)]
    if torch.cuda.get_device_capability()[0] == 9:
        bodies += [Body(True), Body(True, ["NO_TURNS"])]
    failed = False
    for body in bodies:
        for n, m, d in [(64, 64, 128), (150, 203, 128), (517, 300, 128), (203, 150, 64), (700, 1500, 80)]:
            mask = torch.rand(2, 1, n, m) < 0.3
            mask[:, :, : n // 2, : m // 2] = False
            mask[:, :, n // 2 :, : m // 4] = True
            case = Case(2, 3, n, m, d, mask, body)
            case.all()
            errors = case.errors()
            good = all(e < 0.01 for e in errors)
            failed |= not good
            verdict = "good" if good else "WRONG"
            print(f"{body.title}: N {n} M {m} D {d}:", *(f"{e:.1e}" for e in errors), verdict, flush=True)
    sizes = transformer.Sizes(False)
    mask = transformer.may_attend(sizes, "cpu")
    n = mask.shape[2]
    b, h, d, share = 4, 16, 128, mask.float().mean().item()
    print(f"B {b} H {h} N {n} D {d}, {share:.3f} of the scores allowed")
    flops = {"forward": 4, "back_keys": 8, "back_queries": 6}
    for body in bodies:
        case = Case(b, h, n, n, d, mask.expand(b, 1, n, n), body)
        case.all()
        print(f"{body.title}: tiles taken {(case.kinds > 0).float().mean().item():.3f}")
        for name in ("summary", "forward", "back_numbers", "back_keys", "back_queries"):
            time = median(getattr(case, name), runs)
            rate = flops.get(name, 0) * b * h * n * n * d * share / time / 1e9
            print(f"  {name:14} {time:7.3f} ms" + (f" {rate:6.0f} TFLOP/s" if rate else ""), flush=True)
        results = [x.clone() for x in (case.o, case.dq, case.dk, case.dv)]
        case.all()
        same = all(torch.equal(x, y) for x, y in zip(results, (case.o, case.dq, case.dk, case.dv)))
        failed |= not same
        print("  again: the same bits" if same else "  again: OTHER BITS")
    q, k, v = (x.clone().requires_grad_() for x in (case.q, case.k, case.v))
    for title, kind in [("PyTorch with the mask", case.mask), ("PyTorch without a mask", None)]:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=kind)
        with torch.no_grad():
            time = median(lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=kind), runs)
        back = median(lambda: torch.autograd.grad(out, (q, k, v), case.g, retain_graph=True), runs)
        print(f"{title}: forward {time:.3f} ms, backward {back:.3f} ms", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
