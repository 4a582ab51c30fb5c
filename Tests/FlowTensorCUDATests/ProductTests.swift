import FlowCore
import FlowTestSupport
import Foundation
import Synchronization
import Testing

@testable import FlowTensor
@testable import FlowTensorCUDA

/// Algorithms of products, of which the stand-in for cuBLASLt offers five (`Tests/CUDAShim/libraries/cublaslt.cpp`). A
/// process each, in which what is made is counted.
@Suite(.enabled(if: CUDAShim.folder != nil, "CUDA on the CPU can't be built here"))
struct ProductTests {
  /// The heuristic's first; other bits, and fastest; the fastest of the same bits.
  private static let (first, otherBits, fastest) = (0, 1, 2)
  private static let (m, k, n) = (96, 120, 96)
  private static let op = MatMul(transposeA: false, transposeB: false)

  /// Backends whose choices lie in one folder, and what they said.
  private final class Place: Sendable {
    let folder = NSTemporaryDirectory() + "flow-products-\(UUID().uuidString)"
    let said = Mutex<[String]>([])

    init() throws {
      setenv("FLOW_KERNEL_CACHE", folder, 1)
      CUDALibraries.use(try #require(CUDAShim.folder))
    }
    func backend(limit: Duration = .seconds(100), _ precision: CUDAPrecision = .float32) throws -> CUDABackend
    {
      CUDABackend(try CUDADevice(0), precision) { name in
        TrialChoices(device: name, folder: folder, limit: limit) { text in
          self.said.withLock { $0.append(text) }
        }
      }
    }
    deinit { try? FileManager.default.removeItem(atPath: folder) }
  }

  private static func symbol(_ library: String, _ name: String) throws -> UnsafeMutableRawPointer {
    let handle = dlopen(try #require(CUDAShim.folder) + "/" + library, RTLD_NOW)
    return try #require(dlsym(handle, name))
  }

  /// How many products were made by an algorithm.
  private static func made(_ algorithm: Int) throws -> Int {
    let function = try symbol("libcublasLt.so", "shim_products")
    return unsafeBitCast(function, to: (@convention(c) (Int32) -> Int).self)(Int32(algorithm))
  }

  /// The result of a product, by a program of its own.
  private static func product(_ backend: CUDABackend) throws -> [Float] {
    let graph = Graph()
    let (a, b) = (try graph.input("a", [m, k]), try graph.input("b", [n, k]))
    let program = try Program(
      graph, outputs: ["y": a.matmul(b, transpose: true)], parameters: ParameterStore(backend))
    var random = Philox(seed: 3)
    func values(_ count: Int) -> [Float] { (0..<count).map { _ in Float(random.uniform(-1...1)) } }
    let (x, y) = (values(m * k), values(n * k))
    return try #require(program.run(["a": HostTensor(x, [m, k]), "b": HostTensor(y, [n, k])])["y"]).floats
  }

  @Test func theFastestOfTheSameBitsIsTakenAndRemembered() async {
    await #expect(processExitsWith: .success) {
      let place = try Place()
      let plain = try ProductTests.product(place.backend(limit: .zero))
      #expect(try ProductTests.made(ProductTests.fastest) == 0)

      let backend = try place.backend()
      let before = try ProductTests.made(ProductTests.fastest)
      #expect(try ProductTests.product(backend) == plain)
      #expect(try ProductTests.made(ProductTests.fastest) > before + 1)
      #expect(backend.trials.all.values.map { $0[5] } == [UInt64(ProductTests.fastest)])
      let path = try #require(backend.trials.path)
      #expect(FileManager.default.fileExists(atPath: path))

      // Another process only reads.
      let tried = try ProductTests.made(ProductTests.otherBits)
      let uses = try ProductTests.made(ProductTests.fastest)
      #expect(try ProductTests.product(place.backend()) == plain)
      #expect(try ProductTests.made(ProductTests.otherBits) == tried)
      #expect(try ProductTests.made(ProductTests.fastest) == uses + 1)
      #expect(place.said.withLock { $0 } == [])
    }
  }

  /// Rounded to 8 bits, most results of another order are the same: those that are compared must tell.
  @Test func otherBitsAreSeenInRoundedResults() async {
    await #expect(processExitsWith: .success) {
      let place = try Place()
      let backend = try place.backend(.bfloat16)
      let sizes = (ProductTests.m, ProductTests.k, ProductTests.n)
      let memory = try CUDABuffer(backend.device, 30_000)
      func operand(_ shape: [Int]) -> Operand {
        Operand(address: memory.address, shape: shape, dtype: .bfloat16)
      }
      for isAdded in [false, true] {
        let output = operand([sizes.0, sizes.2])
        _ = try MatrixProduct(
          backend, ProductTests.op,
          [operand([sizes.0, sizes.1]), operand([sizes.1, sizes.2])] + (isAdded ? [output] : []),
          output)
      }
      #expect(
        backend.trials.all.values.map { $0[5] }
          == [UInt64](repeating: UInt64(ProductTests.fastest), count: 2))
    }
  }

  @Test func aDamagedFileIsSaidAndMadeAgain() async {
    await #expect(processExitsWith: .success) {
      let place = try Place()
      let plain = try ProductTests.product(place.backend())
      let path = try #require(place.backend().trials.path)
      let good = try #require(FileManager.default.contents(atPath: path))
      var changed = good
      changed[changed.count / 2] ^= 1
      for (index, damaged) in [changed, Data(), good.dropLast(9), Data("nothing\nof\nthe kind\n".utf8)]
        .enumerated()
      {
        try damaged.write(to: URL(fileURLWithPath: path))
        #expect(try ProductTests.product(place.backend()) == plain)
        #expect(FileManager.default.contents(atPath: path) == good)
        #expect(place.said.withLock { $0 }.count == index + 1)
      }
      #expect(place.said.withLock { $0.allSatisfy { $0.contains(path) && $0.contains("damaged") } })
    }
  }

  /// Such as another library's, of the same version.
  @Test func aRememberedAlgorithmThatIsNotOfferedIsTriedAgain() async {
    await #expect(processExitsWith: .success) {
      let place = try Place()
      let backend = try place.backend()
      let plain = try ProductTests.product(backend)
      let kind = try #require(backend.trials.all.keys.first)
      backend.trials.remember(kind, [UInt64](repeating: 77, count: 8))
      backend.trials.save()
      let next = try place.backend()
      #expect(next.trials.words(kind)?.first == 77)
      #expect(try ProductTests.product(next) == plain)
      #expect(next.trials.words(kind)?[5] == UInt64(ProductTests.fastest))
    }
  }

  @Test func withoutTimeOrMemoryTheFirstIsTaken() async {
    await #expect(processExitsWith: .success) {
      let place = try Place()
      let idle = try place.backend(limit: .zero)
      _ = try ProductTests.product(idle)
      #expect(
        idle.trials.all.isEmpty
          && idle.trials.path.map { FileManager.default.fileExists(atPath: $0) } == false)
      #expect(try ProductTests.made(ProductTests.otherBits) == 0)

      let memory = try CUDABuffer(idle.device, 30_000)
      func operand(_ shape: [Int]) -> Operand {
        Operand(address: memory.address, shape: shape, dtype: .float32)
      }
      let inputs = [operand([ProductTests.m, ProductTests.k]), operand([ProductTests.k, ProductTests.n])]
      let output = operand([ProductTests.m, ProductTests.n])
      let product = try MatrixProduct(idle, ProductTests.op, inputs, output)
      let trial = ProductTrial(product: product, op: ProductTests.op, inputs: inputs, output: output)
      func found() throws -> Int? {
        try trial.fastest(of: product.offers(), idle.compiler, within: .seconds(100))
      }
      #expect(try found() == ProductTests.fastest)
      let free = try idle.device.free()
      let fault = try ProductTests.symbol("libcuda.so.1", "shim_set_fault")
      let set = unsafeBitCast(fault, to: (@convention(c) (UnsafePointer<CChar>?) -> Void).self)
      set("oom-at=\(8 << 30 - free + 100_000)")
      #expect(try found() == nil)
      set(nil)
      // What was taken for it is given back.
      #expect(try idle.device.free() == free)
      #expect(try found() == ProductTests.fastest)
    }
  }
}
