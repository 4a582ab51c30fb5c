public import FlowStore
import Foundation

/// What CUDA devices a cluster's jobs get. Results' keys name the device, and the machine that makes the keys may have none,
/// so one job is asked, and its answer is kept in the cache by the options that jobs are submitted with. That it still
/// holds, each job sees for itself before it begins (`BatchTask`); where it doesn't, it is forgotten.
public struct ClusterDevices: Codable, Sendable {
  /// What a process found of CUDA devices.
  public struct Device: Codable, Sendable, Hashable {
    /// What decides its results, as keys have it; `nil` when there is none that can be used.
    public var name: String?
    /// Why there is none.
    public var problem: String?

    /// A device, or why there is none.
    public init(name: String?, problem: String?) { (self.name, self.problem) = (name, problem) }
  }

  /// What one job had.
  public struct Answer: Codable, Sendable, Hashable {
    /// For work that is not shared, and for that of several ranks.
    public var alone: Device, ranked: Device

    /// What `find` says of one rank and of several.
    public init(_ find: (_ ranks: Int) -> Device) { (alone, ranked) = (find(1), find(2)) }

    /// That of `ranks` ranks.
    public func device(_ ranks: Int) -> Device { ranks == 1 ? alone : ranked }
  }

  private var answers: [String: Answer] = [:]
  /// The options of the run that asked last.
  private var latest: String?

  private static func path(_ store: Store) -> String { store.root + "/cluster-devices" }

  /// What is known in `store`; nothing when it was lost, which costs asking again.
  private static func read(_ store: Store) -> ClusterDevices {
    guard let bytes = FileBytes.read(path(store)).flatMap({ Store.checked($0, at: path(store)) }),
      let known = try? JSONDecoder().decode(ClusterDevices.self, from: Data(bytes))
    else { return ClusterDevices() }
    return known
  }

  private func write(_ store: Store) throws {
    try store.publishChecked(Array(JSONEncoder().encode(self)), at: ClusterDevices.path(store))
  }

  /// What jobs with these options for `sbatch` were given, if one was ever asked.
  public static func known(_ arguments: [String], in store: Store) -> Answer? {
    read(store).answers[arguments.joined(separator: " ")]
  }

  /// What the jobs of the latest run were given.
  public static func latest(in store: Store) -> Answer? {
    let all = read(store)
    return all.latest.flatMap { all.answers[$0] }
  }

  /// Keeps an answer, as that of the latest run.
  static func keep(_ answer: Answer, _ arguments: [String], in store: Store) throws {
    var all = read(store)
    let options = arguments.joined(separator: " ")
    if all.latest == options, all.answers[options] == answer { return }
    all.latest = options
    all.answers[options] = answer
    try all.write(store)
  }

  /// Forgets all answers that name the device `name`: a job was given another.
  static func forget(_ name: String, in store: Store) throws {
    var all = read(store)
    all.answers = all.answers.filter { $1.alone.name != name && $1.ranked.name != name }
    try all.write(store)
  }
}
