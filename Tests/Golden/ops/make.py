#!/usr/bin/env python3
"""Writes PyTorch's values and gradients of some ops to NAME.json beside this file: what Tests/FlowTensorTests compares.

Needs torch (CPU); with names, makes those alone. A case: inputs and outputs by name, each {shape, values}; gradients of the sum of the first output
times `weights`, by input name.
"""
import json
import pathlib
import sys

import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent


def plain(tensor):
    values = [float(f"{v:.9g}") for v in tensor.detach().double().flatten().tolist()]
    return {"shape": list(tensor.shape), "values": values}


def case(name, shapes, function, scale=1.0):
    if len(sys.argv) > 1 and name not in sys.argv[1:]:
        return
    torch.manual_seed(sum(map(ord, name)))
    inputs = {key: (torch.randn(shape) * scale).requires_grad_() for key, shape in shapes.items()}
    outputs = function(**inputs)
    outputs = outputs if isinstance(outputs, dict) else {"y": outputs}
    first = next(iter(outputs.values()))
    weights = torch.randn(first.shape)
    gradients = torch.autograd.grad((first * weights).sum(), list(inputs.values()), allow_unused=True)
    record = {
        "torch": torch.__version__.split("+")[0],
        "inputs": {k: plain(v) for k, v in inputs.items()},
        "outputs": {k: plain(v) for k, v in outputs.items()},
        "weights": plain(weights),
        "gradients": {k: plain(g) for k, g in zip(inputs, gradients) if g is not None},
    }
    (HERE / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")


def stft(x, n, hop, center=True, **more):
    y = torch.stft(x, n, hop, window=torch.hann_window(n), center=center, return_complex=True, **more)
    return {"re": y.real, "im": y.imag}


def istft(re, im, n, hop, length):
    return torch.istft(torch.complex(re, im), n, hop, window=torch.hann_window(n), length=length)


def lstm(layers, width, hidden, both):
    torch.manual_seed(7)
    net = torch.nn.LSTM(width, hidden, layers, bidirectional=both)

    def run(x, **parameters):
        y, (h, c) = torch.func.functional_call(net, parameters, (x,))
        return {"y": y, "h": h, "c": c}

    shapes = {"x": [6, 3, width]} | {name: list(p.shape) for name, p in net.named_parameters()}
    return shapes, run


case("gelu", {"x": [40]}, lambda x: F.gelu(x), scale=2)
case("gelu-tanh", {"x": [40]}, lambda x: F.gelu(x, approximate="tanh"), scale=2)
case("group-norm", {"x": [2, 6, 7], "weight": [6], "bias": [6]},
     lambda x, weight, bias: F.group_norm(x, 3, weight, bias))
case("conv2d", {"x": [2, 3, 9, 8], "w": [4, 3, 5, 3], "b": [4]},
     lambda x, w, b: F.conv2d(x, w, b, stride=(3, 2), padding=(2, 1), dilation=(1, 2)))
case("conv1d-groups", {"x": [2, 6, 15], "w": [9, 2, 4], "b": [9]},
     lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=3, groups=3))
case("conv1d-reflect", {"x": [2, 2, 9], "w": [3, 2, 5]}, lambda x, w: F.conv1d(F.pad(x, (2, 2), "reflect"), w))
case("conv1d-circular", {"x": [2, 2, 9], "w": [3, 2, 5]}, lambda x, w: F.conv1d(F.pad(x, (2, 2), "circular"), w))
case("conv-transpose1d", {"x": [2, 4, 6], "w": [4, 3, 5], "b": [3]},
     lambda x, w, b: F.conv_transpose1d(x, w, b, stride=3, padding=2, output_padding=1, dilation=2))
case("conv-transpose1d-groups", {"x": [2, 4, 6], "w": [4, 3, 5], "b": [6]},
     lambda x, w, b: F.conv_transpose1d(x, w, b, stride=2, padding=1, output_padding=1, groups=2))
case("conv-transpose2d", {"x": [2, 4, 3, 5], "w": [4, 2, 3, 2], "b": [4]},
     lambda x, w, b: F.conv_transpose2d(x, w, b, stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2))
case("max-pool", {"x": [2, 2, 7, 9]}, lambda x: F.max_pool2d(x, (3, 2), (2, 2), (1, 1)))
case("average-pool", {"x": [2, 2, 7, 9]}, lambda x: F.avg_pool2d(x, (3, 2), (2, 2), (1, 1)))
for mode in ["nearest", "linear"]:
    case(f"interpolate-{mode}", {"x": [2, 2, 7]},
         lambda x: {"up": F.interpolate(x, 17, mode=mode), "down": F.interpolate(x, 3, mode=mode)})
case("interpolate-bilinear", {"x": [1, 2, 4, 5]}, lambda x: F.interpolate(x, (7, 3), mode="bilinear"))
case("rfft", {"x": [3, 20]}, lambda x: {"re": torch.fft.rfft(x).real, "im": torch.fft.rfft(x).imag})
case("rfft-im", {"x": [3, 15]}, lambda x: {"im": torch.fft.rfft(x).imag, "re": torch.fft.rfft(x).real})
case("irfft", {"re": [2, 9], "im": [2, 9]}, lambda re, im: torch.fft.irfft(torch.complex(re, im), 16))
case("irfft-odd", {"re": [2, 8], "im": [2, 8]}, lambda re, im: torch.fft.irfft(torch.complex(re, im), 15))
case("stft", {"x": [2, 100]}, lambda x: stft(x, 32, 8))
case("stft-plain", {"x": [1, 90]}, lambda x: stft(x, 30, 7, center=False, normalized=True))
case("stft-short-window", {"x": [1, 90]}, lambda x: {
    k: f(torch.stft(x, 32, 8, 20, torch.hann_window(20), return_complex=True))
    for k, f in [("re", torch.real), ("im", torch.imag)]})
case("istft", {"re": [2, 17, 13], "im": [2, 17, 13]}, lambda re, im: istft(re, im, 32, 8, 96))
case("lstm", *lstm(1, 5, 4, False))
case("lstm-both", *lstm(2, 5, 3, True))
# A plain row, a repeat in few steps, labels that can't come in so many, none at all.
case("ctc", {"x": [4, 9, 6]}, lambda x: F.ctc_loss(
    x.log_softmax(2).transpose(0, 1), torch.tensor([[1, 2, 5, 3, 0], [4, 4, 4, 1, 0], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]]),
    torch.tensor([9, 7, 4, 5]), torch.tensor([4, 4, 5, 0]), reduction="none", zero_infinity=True), scale=2)
