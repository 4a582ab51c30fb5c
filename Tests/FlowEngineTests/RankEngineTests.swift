import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

/// What the engine does about ranks without starting any.
@Suite struct RankEngineTests {
  private static func stage(ranks: Int?) -> PlannedStage {
    var declaration = StageDeclaration(
      name: "learn", version: 1, doc: "", per: .all, outputs: [OutputDeclaration(name: "o", type: .files)])
    if ranks != nil {
      declaration.parameters = [
        ParameterDeclaration(name: "ranks", kind: .int(min: 1, max: nil), standard: .int(1))
      ]
    }
    return PlannedStage(
      name: "learn", declaration: declaration, parameters: ranks.map { ["ranks": .int($0)] } ?? [:],
      bindings: [:], resources: Resources(cpu: 0, memory: 100 << 20))
  }

  private static func action(ranks: Int?) -> Action {
    let stage = stage(ranks: ranks)
    return Action(stage, template: Action.template(stage, files: [:]), inputs: [:])
  }

  @Test func theNumberOfRanksIsInTheKey() {
    #expect(RankEngineTests.action(ranks: 1).key != RankEngineTests.action(ranks: 2).key)
    #expect([1, 2, nil].map { RankEngineTests.action(ranks: $0).ranks } == [1, 2, 1])
  }

  @Test func declaredMemoryIsOfEachRankAndTheLeastThatRanksGet() {
    let capacity = Capacity(threads: 8, memory: 1 << 40)
    #expect(Request(RankEngineTests.stage(ranks: 3), measured: nil, capacity).memory == 300 << 20)
    // Measured on one rank, perhaps.
    #expect(Request(RankEngineTests.stage(ranks: 3), measured: 1000, capacity).memory == 300 << 20)
    #expect(Request(RankEngineTests.stage(ranks: 3), measured: 1000 << 20, capacity).memory == 1200 << 20)
    #expect(Request(RankEngineTests.stage(ranks: 1), measured: 1000, capacity).memory == 1200)
  }

  @Test func aJobOfRanksAsksForTasksThatMayLieOnSeveralNodes() throws {
    let folder = try TemporaryFolder()
    let store = try Store(root: folder.path)
    func arguments(_ ranks: Int) -> [String] {
      let assignment = Assignment(
        RankEngineTests.action(ranks: ranks), stage: "learn", grant: Grant(threads: 8, memory: 0))
      return SlurmJob(batch: Batch.new(store, stage: "learn"), tasks: [[assignment]], memory: 800 << 20)
        .arguments(SlurmSettings(), folder: "/")
    }
    let one = arguments(1), four = arguments(4)
    for option in ["--ntasks=1", "--nodes=1", "--cpus-per-task=8", "--mem=800M"] {
      #expect(one.contains(option), "\(one)")
    }
    for option in ["--ntasks=4", "--cpus-per-task=2", "--mem-per-cpu=100M"] {
      #expect(four.contains(option), "\(four)")
    }
    #expect(!four.contains { $0.hasPrefix("--nodes") })
    let batch = Batch.new(store, stage: "learn")
    let script = SlurmJob.script(program: "/f", store: store, batch: batch, ranks: 4, environment: [:])
    #expect(script.contains("unset SLURM_EXPORT_ENV\n"))
  }

  /// To a cluster's job and to ranks on other nodes, by one list.
  @Test func whatDecidesOnResultsAndLibrariesGoesAlong() throws {
    let environment = [
      "FLOW_CUDA_PATH": "/it's here", "FLOW_KERNEL_CACHE": "", "FLOW_TRIALS": "0",
      "VIRTUAL_ENV": "/v",
      "CUDA_HOME": "/c", "CUDA_PATH": "/c", "LD_LIBRARY_PATH": "/l", "XDG_CACHE_HOME": "/x",
      "NCCL_SOCKET_IFNAME": "ib0", "OPENBLAS_CORETYPE": "Haswell",
      // The machine's own, and names that a shell doesn't take.
      "CUDA_VISIBLE_DEVICES": "3", "HOME": "/h", "PATH": "/bin", "FLOW_CACHE": "c", "NCCL_(x)": "1",
      "MY_NCCL_X": "1",
    ]
    let folder = try TemporaryFolder()
    let store = try Store(root: folder.path)
    let script = SlurmJob.script(
      program: "/f", store: store, batch: Batch.new(store, stage: "s"), ranks: 1, environment: environment)
    let exported = script.split(separator: "\n").filter { $0.hasPrefix("export ") }
    #expect(exported.count == 10)
    #expect(
      exported.contains(#"export FLOW_CUDA_PATH='/it'\''s here'"#)
        && exported.contains("export FLOW_KERNEL_CACHE=''"))
    guard Programs.find("mpirun") != nil else { return }
    let words = try RankLauncher.command(["/f"], ranks: 2, environment: environment)
    let passed = words.indices.filter { words[$0] == "-x" }.map { words[$0 + 1] }
    #expect(passed == exported.map { String($0.dropFirst(7).prefix { $0 != "=" }) })
  }

  /// A GPU of its own for each rank: all on one machine, or as many on each as it says.
  @Test func ranksOnDevicesAskForAGPUEach() throws {
    func stage(_ device: String, gpu: Int = 0) -> PlannedStage {
      var stage = RankEngineTests.stage(ranks: 4)
      stage.parameters["device"] = .string(device)
      stage.resources.gpu = gpu
      return stage
    }
    let capacity = Capacity(threads: 8, gpus: ["0", "1", "2", "3", "4"])
    #expect(Request(stage("cuda"), measured: nil, capacity).gpus == 4)
    #expect(Request(stage("cuda", gpu: 2), measured: nil, capacity).gpus == 2)
    #expect(Request(stage("auto"), measured: nil, capacity).gpus == 4)
    #expect(Request(stage("auto"), measured: nil, Capacity(threads: 8)).gpus == 0)
    // A cluster that may have none isn't asked for what is only welcome.
    #expect(Request(stage("auto"), measured: nil, .cluster(threads: 8)).gpus == 0)
    #expect(Request(stage("cpu"), measured: nil, capacity).gpus == 0)
    let folder = try TemporaryFolder()
    let store = try Store(root: folder.path)
    func arguments(gpus: Int) -> [String] {
      var assignment = Assignment(
        RankEngineTests.action(ranks: 4), stage: "learn", grant: Grant(threads: 8, memory: 0))
      assignment.gpus = gpus
      return SlurmJob(batch: Batch.new(store, stage: "learn"), tasks: [[assignment]], memory: nil)
        .arguments(SlurmSettings(), folder: "/")
    }
    for option in ["--ntasks=4", "--nodes=1", "--ntasks-per-node=4", "--gres=gpu:4"] {
      #expect(arguments(gpus: 4).contains(option))
    }
    for option in ["--ntasks=4", "--nodes=2", "--ntasks-per-node=3", "--gres=gpu:3"] {
      #expect(arguments(gpus: 3).contains(option))
    }
  }

  @Test func aStageThatAsksForRanksDoesNotRunWithout() throws {
    let folder = try TemporaryFolder()
    struct Learn: Stage {
      static let name = "learn"
      struct Parameters: Decodable, Sendable {}
      let parameters: Parameters
      func run(_ context: StageContext) throws { try context.emit("o", id: "a", files: ["f": .text("t")]) }
    }
    let executor = LocalExecutor(store: try Store(root: folder.path), stages: [NativeStage(Learn.self)])
    func outcome(_ ranks: Int) -> ActionOutcome {
      executor.execute(
        RankEngineTests.action(ranks: ranks), grant: Grant(threads: 1), progress: { _, _ in }, log: { _ in })
    }
    guard case .done = outcome(1) else { return #expect(Bool(false), "\(outcome(1))") }
    guard case .failed(_, let message, _) = outcome(2) else { return #expect(Bool(false)) }
    #expect(message.contains("asks for 2 ranks, and runs on 1"))
  }

  /// Of ranks, what the first gives is the result, and what the others give is nowhere.
  @Test func onlyTheFirstRankWritesAndAllGetItsCheckpoint() throws {
    struct Learn: Stage {
      static let name = "learn"
      struct Parameters: Decodable, Sendable {}
      let parameters: Parameters
      func run(_ context: StageContext) throws {
        let rank = context.ranks.rank
        let found = try context.checkpoint("c").map { $0[0] } ?? 7
        try context.keepCheckpoint([UInt8(40 + rank)], as: "c")
        try context.ranks.barrier()
        let again = try context.checkpoint("c") ?? []
        try context.emit(
          "o", id: "a", files: ["f": .text("rank \(rank) \(found) \(again) on \(context.threads)")])
        try context.checkCancelled()
      }
    }
    let folder = try TemporaryFolder()
    let store = try Store(root: folder.path)
    let outcomes = try ThreadRank.run(2) { rank in
      LocalExecutor(store: store, stages: [NativeStage(Learn.self)], ranks: rank).execute(
        RankEngineTests.action(ranks: 2), grant: Grant(threads: 6), progress: { _, _ in }, log: { _ in })
    }
    var texts: [String?] = []
    for outcome in outcomes {
      guard case .done(let outputs, _, _) = outcome else { return #expect(Bool(false), "\(outcome)") }
      let digest = try #require(outputs["o"]?.first?.files.first?.digest)
      texts.append((try? store.get(digest)).map { String(decoding: $0, as: UTF8.self) })
    }
    #expect(texts == ["rank 0 7 [40] on 3", nil])
    #expect(store.objectDigests().count == 1)
  }

  @Test func theLaunchersWordsAreUnderstood() {
    let killed = """
      --------------------------------------------------------------------------
      Primary job  terminated normally, but 1 process returned
      mpirun noticed that process rank 1 with PID 4242 on node n1 exited on signal 9 (Killed).
      --------------------------------------------------------------------------
      """
    #expect(RankLauncher.signalled(killed)?.rank == 1 && RankLauncher.signalled(killed)?.signal == 9)
    #expect(RankLauncher.gist(killed).hasPrefix("mpirun noticed"))
    let failed = "flow: rank 1: out of memory\n----\nMPI_ABORT was invoked on rank 1\n"
    #expect(
      RankLauncher.signalled(failed) == nil && RankLauncher.gist(failed) == "flow: rank 1: out of memory")
  }
}
