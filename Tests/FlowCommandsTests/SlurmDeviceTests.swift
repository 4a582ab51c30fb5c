import FlowTestSupport
import Foundation
import Testing

/// `device: cuda` under Slurm where the submitting machine has no CUDA device: scripts that answer like Slurm, and stand-ins
/// for CUDA's libraries on the nodes alone.
@Suite(.enabled(if: CUDAShim.folder != nil, "CUDA on the CPU can't be built here"))
struct SlurmDeviceTests {
  /// A training of `steps` steps, to run on nodes whose device is of that capability; on ones without where it is `nil`.
  private struct Cluster {
    let fake: FakeSlurm

    init(capability: Int?) throws {
      fake = try FakeSlurm()
      for name in try FileManager.default.contentsOfDirectory(atPath: repositoryRoot + "/stages") {
        let file = try Data(contentsOf: URL(fileURLWithPath: repositoryRoot + "/stages/" + name))
        try fake.folder.write("stages/" + name, file)
      }
      try fake.folder.write("songs/a.wav", SmallVocoder.wave)
      try write(steps: 2)
      try equip(capability: capability)
    }

    func write(steps: Int) throws {
      try fake.folder.write("p.yaml", SmallVocoder.pipeline(steps: steps))
    }

    func equip(capability: Int?) throws {
      let folder = CUDAShim.folder ?? ""
      try fake.folder.write(
        "fake/node",
        capability.map {
          """
          export CUDA_VISIBLE_DEVICES=0 FLOW_SHIM_CAPABILITY=\($0)
          export FLOW_CUDA_PATH='\(folder)' FLOW_KERNEL_CACHE='\(folder)/cubins'

          """
        } ?? "export FLOW_CUDA_PATH=/nowhere\n")
    }

    /// `flow COMMAND`, on a machine that shows no device.
    func flow(_ more: String...) throws -> (code: Int32, said: String) {
      let process = try fake.start(more, environment: ["CUDA_VISIBLE_DEVICES": ""])
      process.waitUntilExit()
      return (process.terminationStatus, fake.folder.text(".said"))
    }

    /// What `flow plan` says.
    func plan() throws -> String {
      let (process, output) = (Process(), Pipe())
      process.executableURL = Shell.executable
      process.arguments = ["plan", "p.yaml"]
      process.currentDirectoryURL = URL(fileURLWithPath: fake.folder.path)
      process.environment = ProcessInfo.processInfo.environment.merging([
        "CUDA_VISIBLE_DEVICES": "", "FLOW_CACHE": fake.folder.path + "/cache",
      ]) { $1 }
      process.standardOutput = output
      try process.run()
      let said = output.fileHandleForReading.readDataToEndOfFile()
      process.waitUntilExit()
      return String(decoding: said, as: UTF8.self)
    }

    /// How many results there are.
    var records: Int {
      let folder = fake.folder.path + "/cache/actions"
      return (try? FileManager.default.subpathsOfDirectory(atPath: folder))?.count { $0.count > 40 } ?? 0
    }

    /// How many jobs only said what device they have.
    var questions: Int { fake.submissions.count { $0.contains("--job-name=cuda-device-") } }
  }

  @Test func aJobIsAskedOnceWhatDeviceJobsGetAndKeysNameIt() throws {
    let cluster = try Cluster(capability: 80)
    #expect(try cluster.plan().contains("on a CUDA device that isn't known"))
    let first = try cluster.flow()
    #expect(first.code == 0, "\(first.said)")
    #expect(first.said.contains("says what CUDA device this run's jobs get"))
    #expect(cluster.questions == 1)
    #expect(cluster.fake.submissions[0].contains("--gres=gpu:1"))
    let count = cluster.fake.submissions.count
    let again = try cluster.flow()
    #expect(again.code == 0 && again.said.contains("0 stages run"), "\(again.said)")
    #expect(cluster.fake.submissions.count == count)
    // On the submitting machine too what was made is known, and what is to be made on what.
    #expect(try cluster.plan().contains("cached   train"))
    try cluster.write(steps: 3)
    let plan = try cluster.plan()
    #expect(
      plan.contains("because steps: 2 -> 3\n           on the CPU, as a CUDA device (sm_80, 8 GiB), nvrtc"),
      "\(plan)")
    // With other options, jobs may get another.
    #expect(try cluster.flow("--slurm", "partition=other").code == 0)
    #expect(cluster.questions == 2)
  }

  @Test func aJobOnAnotherDeviceThanItsKeyNamesFailsAndTheNextRunAsks() throws {
    let cluster = try Cluster(capability: 80)
    #expect(try cluster.flow().code == 0)
    let records = cluster.records
    #expect(records == 2)
    try cluster.equip(capability: 90)
    try cluster.write(steps: 3)
    let misplaced = try cluster.flow()
    #expect(misplaced.code == 1)
    #expect(
      misplaced.said.contains("has the CPU, as a CUDA device (sm_90, 8 GiB)")
        && misplaced.said.contains("was planned for the CPU, as a CUDA device (sm_80, 8 GiB)"),
      "\(misplaced.said)")
    #expect(cluster.records == records)
    let next = try cluster.flow()
    #expect(next.code == 0 && cluster.questions == 2, "\(next.said)")
    // Back on the first, nothing of the second is taken for its own.
    try cluster.equip(capability: 80)
    try cluster.write(steps: 2)
    #expect(try cluster.flow().code == 1)
    let last = try cluster.flow()
    #expect(last.code == 0 && last.said.contains("0 stages run"), "\(last.said)")
  }

  @Test func nodesWithoutADeviceAreToldOfBeforeAnythingRuns() throws {
    let cluster = try Cluster(capability: nil)
    for asked in 1...2 {
      let result = try cluster.flow()
      #expect(result.code == 2 && result.said.contains("E035"), "\(result.said)")
      #expect(result.said.contains("libcuda") && result.said.contains("/nowhere"), "\(result.said)")
      // Such an answer isn't kept: somebody may have mended it.
      #expect(cluster.fake.submissions.count == asked && cluster.questions == asked)
    }
    try cluster.fake.mode("FAILED")
    let silent = try cluster.flow()
    #expect(silent.code == 2 && silent.said.contains("has ended without saying"), "\(silent.said)")
    #expect(!FileManager.default.fileExists(atPath: cluster.fake.folder.path + "/p.lock.yaml"))
  }
}
