import FlowCore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

@Suite struct MachineTests {
  @Test func memoryIsWhatKernelAndControlGroupsLeave() throws {
    let folder = try TemporaryFolder()
    #expect(MachineMemory.available(root: folder.path) == .max)
    try folder.write("proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:    4000 kB\n")
    #expect(MachineMemory.available(root: folder.path) == 4_096_000)
    try folder.write("proc/self/cgroup", "4:memory:/job/7\n0::/slice/flow\n")
    try folder.write("sys/fs/cgroup/slice/memory.max", "3000000\n")
    try folder.write("sys/fs/cgroup/slice/memory.current", "1000000\n")
    try folder.write("sys/fs/cgroup/slice/memory.stat", "anon 5\ninactive_file 400000\n")
    try folder.write("sys/fs/cgroup/slice/flow/memory.max", "max\n")
    #expect(MachineMemory.available(root: folder.path) == 2_400_000)
    try folder.write("sys/fs/cgroup/memory/job/7/memory.limit_in_bytes", "500000\n")
    try folder.write("sys/fs/cgroup/memory/job/7/memory.usage_in_bytes", "200000\n")
    #expect(MachineMemory.available(root: folder.path) == 300_000)
    #expect(MachineMemory.available() > 1 << 20)
  }

  /// What an earlier action held is forgotten.
  @Test func peakMemoryIsMeasuredAnew() {
    let size = 200 << 20
    let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
    memset(block, 1, size)
    let before = Machine.peakMemory()
    block.deallocate()
    #expect(before > size)
    Machine.forgetPeakMemory()
    guard access("/proc/self/clear_refs", W_OK) == 0 else {
      return print("skipped: no /proc/self/clear_refs")
    }
    // Other tests in this process hold memory too.
    #expect(Machine.peakMemory() > 0 && Machine.peakMemory() < before - size / 2)
  }

  @Test func gpusAreThoseThatAreVisible() throws {
    let folder = try TemporaryFolder()
    for name in ["nvidia1", "nvidia0", "nvidiactl", "null"] { try folder.write(name, "") }
    #expect(Machine.gpus(environment: [:], devices: folder.path) == ["0", "1"])
    #expect(
      Machine.gpus(environment: ["CUDA_VISIBLE_DEVICES": "3, GPU-a"], devices: folder.path) == ["3", "GPU-a"])
    #expect(Machine.gpus(environment: ["CUDA_VISIBLE_DEVICES": ""], devices: folder.path).isEmpty)
    #expect(Machine.gpus(environment: ["CUDA_VISIBLE_DEVICES": "0,-1,1"], devices: folder.path) == ["0"])
  }
}
