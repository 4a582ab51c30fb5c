import CCUDA
import FlowCore
import FlowTensor
import FlowTestSupport
import Foundation
import Synchronization
import Testing

@testable import FlowTensorCUDA

/// NVIDIA's compiler takes every kernel, for the oldest device, for Hopper, and for the newest that it knows; and puts all
/// that a thread has into registers. Needs no GPU: `scripts/setup --cuda` installs the compiler.
@Suite struct CompileBudgetTests {
  /// Where NVRTC lies, if it does; the skip is printed when not.
  private static let nvrtc: String? = {
    var folders = [Golden.repository.path + "/.cuda/nvidia/cu13/lib"]
    if let own = ProcessInfo.processInfo.environment["FLOW_CUDA_PATH"] {
      folders += own.split(separator: ":").map(String.init)
    }
    let found = folders.first { FileManager.default.fileExists(atPath: $0 + "/libnvrtc.so.13") }
    if found == nil { print("skipped: NVRTC is not here (scripts/setup --cuda installs it)") }
    return found
  }()

  /// What a kernel's code takes on a device.
  private struct Use {
    var entry = ""
    var registers = 0
    var stack = 0
    var spills = 0
  }

  /// What `--ptxas-options=-v` says of each entry.
  private static func uses(_ log: String) -> [Use] {
    var uses: [Use] = []
    for line in log.split(separator: "\n") {
      if let match = line.firstMatch(of: /Compiling entry function '(\w+)'/) {
        uses.append(Use(entry: String(match.1)))
      } else if uses.isEmpty {
        continue
      } else if let match = line.firstMatch(
        of: /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/)
      {
        uses[uses.count - 1].stack = Int(match.1) ?? .max
        uses[uses.count - 1].spills = (Int(match.2) ?? .max) + (Int(match.3) ?? 0)
      } else if let match = line.firstMatch(of: /Used (\d+) registers/) {
        uses[uses.count - 1].registers = Int(match.1) ?? .max
      }
    }
    return uses
  }

  /// The compiler's log, which is kept by the content of all that decides it.
  private static func log(_ kernel: Kernel, _ architecture: String) throws(TensorError) -> String {
    let text = try KernelCompiler.text(kernel)
    var hasher = SHA256()
    for part in [CUDALibraries.nvrtc.version, architecture] + kernel.options + [text] {
      hasher.field("part", part.utf8)
    }
    let folder = Golden.repository.appendingPathComponent(".build/cuda-budget")
    let file = folder.appendingPathComponent(hasher.finish().hex)
    if let kept = try? String(contentsOf: file, encoding: .utf8) { return kept }
    let log = try KernelCompiler.compile(kernel, text, architecture).log
    try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try? Data(log.utf8).write(to: file, options: .atomic)
    return log
  }

  /// Compiles `kernels`, and expects that nothing is kept in memory and that a block's registers are there.
  private static func check(_ kernels: [Kernel], _ architecture: String, isNewest: Bool) {
    let problems = Mutex<[String]>([])
    let most = Mutex<[String: Int]>([:])
    DispatchQueue.concurrentPerform(iterations: kernels.count) { index in
      let kernel = kernels[index]
      do {
        let uses = uses(try log(kernel, architecture))
        if uses.isEmpty { problems.withLock { $0.append("\(kernel.title): the log names no kernel") } }
        for use in uses {
          most.withLock { $0[use.entry] = max($0[use.entry] ?? 0, use.registers) }
          // Launch bounds say how many blocks fit. The sine of a large number takes 32 bytes of memory, whatever one does;
          // and for the newest devices, which no kernel is made for, a few bytes are let pass.
          let isGroup = use.entry == "group"
          let (registers, stack, spills) = (
            isGroup ? 128 : 255, isGroup ? 32 : isNewest ? 64 : 0, isNewest ? 128 : 0
          )
          if use.registers == 0 || use.registers > registers || use.stack > stack || use.spills > spills {
            problems.withLock { $0.append("\(kernel.title): \(use)") }
          }
        }
      } catch { problems.withLock { $0.append("\(error)") } }
    }
    for problem in problems.withLock({ $0.sorted() }) { Issue.record("\(architecture): \(problem)") }
    let list = most.withLock { $0 }.sorted { $0.key < $1.key }.map { "\($0) \($1)" }.joined(separator: ", ")
    print("\(architecture): \(kernels.count) sources; registers: \(list)")
  }

  @Test(.enabled(if: nvrtc != nil)) func everyKernelCompilesWithinItsBudget() async {
    // A process of its own, in which the compiler is the real one.
    let result = await #expect(
      processExitsWith: .success, observing: [\.standardOutputContent, \.standardErrorContent]
    ) {
      CUDALibraries.use(try #require(CompileBudgetTests.nvrtc))
      if let problem = CUDALibraries.nvrtc.problem { Issue.record("\(problem)") }
      var count: Int32 = 0
      _ = flow_nvrtcGetNumSupportedArchs(&count)
      var known = [Int32](repeating: 0, count: Int(count))
      _ = flow_nvrtcGetSupportedArchs(&known)
      let newest = Int(try #require(known.max()))
      for capability in [80, 90, newest] {
        let architecture = KernelCompiler(capability: capability, folder: nil).architecture
        CompileBudgetTests.check(
          try Survey.kernels(capability: capability), architecture, isNewest: capability == newest)
      }
    }
    if let output = result?.standardOutputContent { print(String(decoding: output, as: UTF8.self)) }
    if let problems = result?.standardErrorContent, !problems.isEmpty {
      print(String(decoding: problems.suffix(2000), as: UTF8.self))
    }
  }

  /// The check itself: an array that is indexed at run time is kept in memory.
  @Test(.enabled(if: nvrtc != nil)) func anArrayInMemoryIsSeen() async {
    await #expect(processExitsWith: .success) {
      CUDALibraries.use(try #require(CompileBudgetTests.nvrtc))
      let text = """
        KERNEL(128) indexed(float *y, const int *at) {
          float v[64];
          for (int i = 0; i < 64; i++) v[at[i]] = y[i];
          y[threadIdx.x] = v[at[threadIdx.x]];
        }
        """
      let use = try #require(
        CompileBudgetTests.uses(CompileBudgetTests.log(Kernel(text: text, "indexed"), "sm_80")).first)
      #expect(use.entry == "indexed" && use.stack > 0 && use.registers > 0)
    }
  }
}
