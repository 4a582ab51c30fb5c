import FlowCore
public import FlowStore
import Foundation

/// A small job with one GPU, which says what the jobs of a run will have.
struct DeviceQuestion {
  let store: Store
  let tools: SlurmTools
  let settings: SlurmSettings
  let program: String

  /// Submits it and waits for what it says.
  /// - Parameters:
  ///   - say: is told what is waited for.
  ///   - isCancelled: asked meanwhile; the job is cancelled with it.
  /// - Throws: `Diagnostics` when it can't be submitted or says nothing; `CancellationError`; `StoreError`.
  func ask(say: (String) -> Void, isCancelled: () -> Bool) async throws -> ClusterDevices.Answer {
    let batch = Batch.new(store, stage: "cuda-device")
    let words = [program, "exec", "--cache", store.root, "--devices", batch.id]
    let environment = ProcessInfo.processInfo.environment
    let script = SlurmJob.script(words, ranks: 1, environment: environment)
    try store.publish(Array(script.utf8), at: batch.script, mode: 0o755)
    defer { try? FileManager.default.removeItem(atPath: batch.folder) }
    let options = [
      "--job-name=\(batch.id)", "--export=NONE", "--requeue", "--open-mode=append", "--nodes=1", "--ntasks=1",
      "--chdir=\(FileManager.default.currentDirectoryPath)", "--output=\(batch.folder)/%a.log", "--array=0-0",
      "--cpus-per-task=1", "--mem=1024M", "--time=10", "--gres=gpu:1",
    ]
    let job: Int
    do { job = try tools.submit(options + settings.arguments + [batch.script]) } catch {
      throw fail("\(error)", "see --slurm partition=…, account=… and --slurm-args; nothing was run")
    }
    say("job \(job) says what CUDA device this run's jobs get; its answer is kept")
    var (interval, nextPoll, spoken) = (settings.poll, Date(), "")
    var (endedSince, unreadableSince): (Date?, Date?) = (nil, nil)
    while true {
      if let answer = DeviceQuestion.answer(batch) { return answer }
      if isCancelled() {
        _ = try? tools.call("scancel", ["\(job)"])
        throw CancellationError()
      }
      if Date() >= nextPoll {
        do {
          let status = try tools.statuses(names: [batch.id])[batch.id]?[0]
          unreadableSince = nil
          if let status, status.state.isLive {
            endedSince = nil
            if case .waiting = status.state, status.reason != spoken, status.reason != "None" {
              spoken = status.reason
              say("job \(job) waits: \(spoken)")
            }
          } else {
            endedSince = endedSince ?? Date()
          }
        } catch {
          unreadableSince = unreadableSince ?? Date()
          if let since = unreadableSince, Date().timeIntervalSince(since) >= settings.patience {
            throw fail("\(error)", "see whether 'squeue' answers here; nothing was run")
          }
        }
        interval = min(interval * 1.5, settings.pollMost)
        nextPoll = Date() + interval
      }
      if let endedSince, Date().timeIntervalSince(endedSince) >= settings.visibility {
        let said = batch.lastWords(0)
        throw fail(
          "job \(job) has ended without saying what CUDA device it had\(said.isEmpty ? "" : ": \(said)")",
          "the nodes must see \(store.root) and \(program); run again to ask again; nothing was run")
      }
      try await Task.sleep(for: .seconds(min(0.2, max(0.01, settings.poll))))
    }
  }

  private func fail(_ message: String, _ help: String) -> Diagnostics {
    Diagnostics([
      Diagnostic(
        code: "E055", "a job with a GPU is asked what CUDA device it has, for 'device: cuda': \(message)",
        help: help)
    ])
  }

  private static func path(_ batch: Batch) -> String { batch.folder + "/answer" }

  private static func answer(_ batch: Batch) -> ClusterDevices.Answer? {
    FileBytes.read(path(batch)).flatMap {
      try? JSONDecoder().decode(ClusterDevices.Answer.self, from: Data($0))
    }
  }

  /// The job's side.
  static func give(_ answer: ClusterDevices.Answer, _ store: Store, batch id: String) throws {
    let batch = Batch(store, id: id)
    try store.publish(Array(JSONEncoder().encode(answer)), at: path(batch))
  }
}

extension ClusterDevices {
  /// The side of the job that was asked: puts what it found where who asked looks for it.
  /// - Throws: `StoreError`.
  public static func give(_ answer: Answer, _ store: Store, batch id: String) throws {
    try DeviceQuestion.give(answer, store, batch: id)
  }
}

extension SlurmExecutor {
  /// What CUDA devices its jobs get: as it is known, else as a job says that is submitted for it.
  /// - Parameters:
  ///   - ranks: how many ranks the work that needs them has; what is known of too little for one of them is asked again.
  ///   - say: is told what is waited for.
  ///   - isCancelled: asked meanwhile.
  /// - Throws: `Diagnostics`; `CancellationError`; `StoreError`.
  public func devices(
    for ranks: Set<Int>, say: (String) -> Void, isCancelled: () -> Bool
  ) async throws -> ClusterDevices.Answer {
    if let known = ClusterDevices.known(settings.arguments, in: store),
      ranks.allSatisfy({ known.device($0).name != nil })
    {
      try ClusterDevices.keep(known, settings.arguments, in: store)
      return known
    }
    let question = DeviceQuestion(store: store, tools: tools, settings: settings, program: program)
    let answer = try await question.ask(say: say, isCancelled: isCancelled)
    try ClusterDevices.keep(answer, settings.arguments, in: store)
    return answer
  }
}
