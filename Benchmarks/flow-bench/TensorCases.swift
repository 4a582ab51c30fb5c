import FlowModels
import FlowTensor
import FlowTensorCPU

/// The cases by name. The peer (`Benchmarks/tensor/peer.py`) has the same names.
let tensorCases: [String: @Sendable (CPUBackend) throws -> TensorCase] = {
  var cases: [String: @Sendable (CPUBackend) throws -> TensorCase] = [
    "dit-256": { try trainDiT($0, dim: 256, depth: 4, heads: 4, batch: 4) },
    "dit-512": { try trainDiT($0, dim: 512, depth: 8, heads: 8, batch: 2) },
    "vocoder-4800": {
      try trainVocoder($0, rates: [8, 5, 5, 4, 3, 2], kernels: [16, 11, 11, 8, 7, 4], frames: 5)
    },
    "vocoder-256": {
      try trainVocoder($0, rates: [4, 4, 2, 2, 2, 2], kernels: [8, 8, 4, 4, 4, 4], frames: 94)
    },
  ]
  for n in [512, 1024, 2048, 4096] {
    cases["gemm-\(n)"] = { try forward($0, [[n, n], [n, n]]) { try $0[0].matmul($0[1]) } }
  }
  for (n, k) in [(4096, 1024), (1024, 4096)] {
    cases["linear-1024x\(n)x\(k)"] = { try both($0, [[1024, k], [n, k]]) { try $0[0].linear($0[1]) } }
  }
  cases["qk-64x512x512x64"] = {
    try both($0, [[64, 512, 64], [64, 512, 64]]) { try $0[0].matmul($0[1], transpose: true) }
  }
  cases["pv-64x512x64x512"] = { try both($0, [[64, 512, 512], [64, 512, 64]]) { try $0[0].matmul($0[1]) } }
  cases["attention-16x512x64"] = {
    try both($0, [[Int]](repeating: [1, 16, 512, 64], count: 3)) { x in
      let lower = (0..<512 * 512).map { $0 % 512 <= $0 / 512 }
      let mask = try x[0].graph.constant(HostTensor(lower, [1, 1, 512, 512]))
      return try x[0].attention(keys: x[1], values: x[2], mask: mask)
    }
  }
  cases["conv-256x256x7"] = {
    try both($0, [[1, 256, 4096], [256, 256, 7]]) { try $0[0].conv1d($0[1], padding: 3) }
  }
  cases["conv-32x32x11-dilated"] = {
    try both($0, [[1, 32, 24000], [32, 32, 11]]) { try $0[0].conv1d($0[1], padding: 25, dilation: 5) }
  }
  cases["rmsnorm"] = { try both($0, [[4096, 1024], [1024]]) { try $0[0].rmsNorm($0[1]) } }
  cases["swiglu"] = { try both($0, [[4096, 1024], [4096, 1024]]) { try $0[0].silu() * $0[1] } }
  cases["softmax"] = { try both($0, [[8192, 512]]) { try $0[0].softmax() } }
  cases["snake"] = {
    try both($0, [[1, 64, 24000], [64], [64]]) {
      try $0[0].aliasFreeSnake(alpha: $0[1], beta: $0[2], logScale: true)
    }
  }
  cases["stft"] = {
    try both($0, [[4, 1, 65536]]) {
      try MelLoss(samplingRate: 24000, windows: [1024], bands: [80]).mel($0[0], scale: 0)
    }
  }
  cases["adamw"] = { try adamW($0) }
  return cases
}()

private typealias Body = ([Tensor]) throws -> Tensor

/// Tensors of these shapes in a store, as parameters of a new graph: they are not copied in.
private func inputs(_ backend: CPUBackend, _ shapes: [[Int]]) throws -> (ParameterStore, Graph, [Tensor]) {
  let (store, graph) = (ParameterStore(backend), Graph())
  for (i, shape) in shapes.enumerated() {
    try store.set("x\(i)", HostTensor(hashed(i, shape.reduce(1, *)), shape))
  }
  return (store, graph, try shapes.enumerated().map { try graph.parameter("x\($0)", $1) })
}

/// One element: what makes a program compute a tensor without copying it out.
private func corner(_ x: Tensor) throws -> Tensor { try x.reshaped([-1]).sliced(axis: 0, from: 0, count: 1) }

private func forward(_ backend: CPUBackend, _ shapes: [[Int]], _ body: Body) throws -> TensorCase {
  let (store, graph, x) = try inputs(backend, shapes)
  let y = try body(x)
  let program = try Program(graph, outputs: ["y": corner(y)], parameters: store)
  return TensorCase(
    run: {
      _ = try program.run()
      return nil
    }, productFlops: program.productFlops, program: program,
    check: {
      let check = try Program(graph, outputs: ["c": y.abs().mean().reshaped([])], parameters: store)
      return try check.run()["c"]?.floats[0] ?? .nan
    })
}

/// Forward and backward, with a fixed gradient of the result, to the gradients of all inputs.
private func both(_ backend: CPUBackend, _ shapes: [[Int]], _ body: Body) throws -> TensorCase {
  let (store, graph, x) = try inputs(backend, shapes)
  let y = try body(x)
  try store.set("g", HostTensor(hashed(99, y.shape.reduce(1, *)), y.shape))
  let gradients = try graph.gradients(
    of: y, weightedBy: graph.parameter("g", y.shape), withRespectTo: x)
  var outputs = ["y": try corner(y)]
  for (i, gradient) in gradients.enumerated() { outputs["g\(i)"] = try corner(gradient) }
  let program = try Program(graph, outputs: outputs, parameters: store)
  return TensorCase(
    run: {
      _ = try program.run()
      return nil
    }, productFlops: program.productFlops, program: program,
    check: {
      var sum = try y.abs().mean().reshaped([])
      for gradient in gradients { sum = try sum + gradient.abs().mean().reshaped([]) }
      return try Program(graph, outputs: ["c": sum], parameters: store).run()["c"]?.floats[0] ?? .nan
    })
}

private func adamW(_ backend: CPUBackend) throws -> TensorCase {
  let shape = [4096, 1024]
  let (store, graph, x) = try inputs(backend, [shape, shape])
  for name in ["m", "v"] {
    try store.set(name, HostTensor([Float](repeating: 0, count: shape.reduce(1, *)), shape))
  }
  try graph.adamW(
    AdamW(), parameter: x[0], gradient: x[1], first: graph.parameter("m", shape),
    second: graph.parameter("v", shape), scalars: graph.input("scalars", [4]))
  let program = try Program(graph, outputs: [:], parameters: store)
  var (one, two): (Float, Float) = (1, 1)
  return TensorCase(
    run: {
      (one, two) = (one * 0.9, two * 0.999)
      _ = try program.run(["scalars": HostTensor([0.001, 1 - one, 1 - two, 1], [4])])
      return nil
    }, program: program,
    check: {
      let values = try store.get("x0").floats
      return Float(values.reduce(0.0) { $0 + abs(Double($1)) } / Double(values.count))
    })
}
