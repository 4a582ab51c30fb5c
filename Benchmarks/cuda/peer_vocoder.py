"""DiffRhythm 2's decoder, a BigVGAN, in plain PyTorch modules, with the discriminators that it is trained against."""
import math

import torch
import torch.nn.functional as F
from torch import nn


class Sizes:
    def __init__(self, tiny):
        self.rates = (4, 2) if tiny else (10, 10, 8, 3, 2, 2)
        self.kernels = (8, 4) if tiny else (20, 20, 16, 7, 4, 4)
        self.channels = 16 if tiny else 1536
        self.scale = 1 / 32 if tiny else 1
        self.frames = 200 if tiny else 10
        self.batch = 2 if tiny else 4
        self.rate, self.hop = 48000, math.prod(self.rates)
        self.windows = (32, 64) if tiny else (32, 64, 128, 256, 512, 1024, 2048)
        self.bands = (5, 10, 20, 40, 80, 160, 320)[: len(self.windows)]


def kaiser_sinc():
    n = torch.arange(12, dtype=torch.float64) - 5.5
    beta = 0.1102 * (2.285 * 5 * math.pi * 1.2 + 7.95 - 8.7)
    window = torch.kaiser_window(12, periodic=False, beta=beta, dtype=torch.float64)
    taps = 0.5 * window * torch.sinc(0.5 * n)
    return (taps / taps.sum()).float()


TAPS = kaiser_sinc().tolist()


def snake(x, a, b):
    return x + torch.sin(x * a).square() * b


def grouped(x, a, b):
    """The filters as grouped convolutions, as BigVGAN has them."""
    channels = x.shape[1]
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device).expand(channels, 1, 12)
    x = 2 * F.conv_transpose1d(F.pad(x, (5, 5), "replicate"), taps, stride=2, groups=channels)[..., 15:-15]
    return F.conv1d(F.pad(snake(x, a, b), (5, 6), "replicate"), taps, stride=2, groups=channels)


def shifted(x, a, b):
    """The same as sums of shifted copies, one phase after the other, which a compiler can fuse."""
    n = x.shape[-1]
    wide = F.pad(x, (3, 3), "replicate")
    phase = [2 * sum(TAPS[2 * k + 1 - p] * wide[..., p + 5 - k : p + 5 - k + n] for k in range(6)) for p in (0, 1)]
    even, odd = snake(phase[0], a, b), snake(phase[1], a, b)
    # Sample m of the doubled wave is even[m / 2] or odd[m / 2]; output t sums taps k of samples 2 t + k - 5.
    first, last = even[..., :1], odd[..., -1:]
    odd = torch.cat((first, first, first, odd, last, last), -1)
    even = torch.cat((first, first, even, last, last, last), -1)
    return sum(TAPS[2 * j] * odd[..., j : j + n] + TAPS[2 * j + 1] * even[..., j : j + n] for j in range(6))


class Activation(nn.Module):
    form = staticmethod(grouped)

    def __init__(self, channels):
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        a, b = self.alpha.exp()[:, None], 1 / (self.beta.exp()[:, None] + 1e-9)
        return Activation.form(x, a.to(x.dtype), b.to(x.dtype))


def norm(layer):
    return nn.utils.parametrizations.weight_norm(layer)


class Block(nn.Module):
    def __init__(self, channels, taps):
        super().__init__()
        def conv(d):
            return norm(nn.Conv1d(channels, channels, taps, dilation=d, padding=d * (taps - 1) // 2))
        self.convs1 = nn.ModuleList([conv(d) for d in (1, 3, 5)])
        self.convs2 = nn.ModuleList([conv(1) for _ in range(3)])
        self.activations = nn.ModuleList([Activation(channels) for _ in range(6)])

    def forward(self, x):
        for j in range(3):
            y = self.convs1[j](self.activations[2 * j](x))
            x = x + self.convs2[j](self.activations[2 * j + 1](y))
        return x


class Vocoder(nn.Module):
    def __init__(self, s):
        super().__init__()
        channels = s.channels
        self.conv_pre = norm(nn.Conv1d(64, channels, 7, padding=3))
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for rate, size in zip(s.rates, s.kernels):
            up = nn.ConvTranspose1d(channels, channels // 2, size, rate, padding=(size - rate) // 2)
            self.ups.append(norm(up))
            channels //= 2
            self.blocks.append(nn.ModuleList([Block(channels, taps) for taps in (3, 7, 11)]))
        self.activation_post = Activation(channels)
        self.conv_post = norm(nn.Conv1d(channels, 1, 7, padding=3, bias=False))

    def forward(self, x):
        x = self.conv_pre(x)
        for up, blocks in zip(self.ups, self.blocks):
            x = up(x)
            x = sum(block(x) for block in blocks) / 3
        return self.conv_post(self.activation_post(x)).float().clamp(-1, 1)


class Periods(nn.Module):
    def __init__(self, period, scale):
        super().__init__()
        self.period = period
        c = [1] + [max(1, int(n * scale)) for n in (32, 128, 512, 1024, 1024)]
        self.convs = nn.ModuleList(
            [norm(nn.Conv2d(c[i], c[i + 1], (5, 1), (3 if i < 4 else 1, 1), (2, 0))) for i in range(5)])
        self.post = norm(nn.Conv2d(c[5], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave):
        wave = F.pad(wave, (0, -wave.shape[-1] % self.period), "reflect")
        return layers(self, wave.view(wave.shape[0], 1, -1, self.period))


class Resolution(nn.Module):
    def __init__(self, resolution, scale):
        super().__init__()
        self.resolution, c = resolution, max(1, int(32 * scale))
        self.convs = nn.ModuleList(
            [norm(nn.Conv2d(1 if i == 0 else c, c, (3, 9) if i < 4 else 3, (1, 2) if 0 < i < 4 else 1,
                            (1, 4) if i < 4 else 1)) for i in range(5)])
        self.post = norm(nn.Conv2d(c, 1, 3, padding=1))
        self.register_buffer("window", torch.ones(resolution[2]))

    def forward(self, wave):
        size, hop, window = self.resolution
        edge = (size - hop) // 2
        with torch.autocast(wave.device.type, enabled=False):
            wave = F.pad(wave, (edge, edge), "reflect").squeeze(1)
            spectrum = torch.stft(wave, size, hop, window, self.window, center=False, return_complex=True)
            x = spectrum.abs()[:, None]
        return layers(self, x)


def layers(part, x):
    features = []
    for conv in part.convs:
        x = F.leaky_relu(conv(x), 0.1)
        features.append(x)
    x = part.post(x)
    return x.flatten(1), features + [x]


class Discriminators(nn.Module):
    def __init__(self, s):
        super().__init__()
        resolutions = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
        self.parts = nn.ModuleList(
            [Periods(p, s.scale) for p in (2, 3, 5, 7, 11)] + [Resolution(r, s.scale) for r in resolutions])

    def forward(self, wave):
        return [part(wave) for part in self.parts]


class MelLoss(nn.Module):
    """L1 of the logarithms of mel magnitudes, summed over scales."""

    def __init__(self, s):
        super().__init__()
        self.windows = s.windows
        for window, bands in zip(s.windows, s.bands):
            self.register_buffer(f"w{window}", torch.hann_window(window))
            self.register_buffer(f"m{window}", filters(s.rate, window, bands))

    def mel(self, wave, window):
        spectrum = torch.stft(
            wave, window, window // 4, window=getattr(self, f"w{window}"), pad_mode="reflect", return_complex=True)
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-30).sqrt()
        return (getattr(self, f"m{window}") @ magnitude).clamp_min(1e-5).log10()

    def forward(self, real, made):
        real, made = real.squeeze(1), made.squeeze(1)
        return sum((self.mel(real, w) - self.mel(made, w)).abs().mean() for w in self.windows)


def filters(rate, size, bands):
    """Slaney's triangular filters, [bands, size / 2 + 1]."""
    def mel(f):
        return f * 3 / 200 if f < 1000 else 15 + math.log(f / 1000) / (math.log(6.4) / 27)

    def hertz(m):
        return m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * math.log(6.4) / 27)

    edges = torch.tensor([hertz(mel(rate / 2) * i / (bands + 1)) for i in range(bands + 2)], dtype=torch.float64)
    f = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    weight = torch.minimum((f - low) / (centre - low), (high - f) / (high - centre)).clamp_min(0)
    return (weight * 2 / (high - low)).float()
