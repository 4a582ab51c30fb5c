import FlowTestSupport
import Testing

/// The CPU's stand-in for a device finds mistakes in kernels: each one planted in `Tests/CUDAShim/planted.cpp` is caught,
/// and the same kernels without one pass.
@Suite struct EmulatorTests {
  /// In the order of `Mistake` there.
  enum Mistake: Int, CaseIterable {
    case none, noBarrierAfterLoad, noBarrierBeforeOverwrite, noWarpBarrier, noCopyWait, pastTheEnd,
      divergentBarrier, pastSharedArray, misaligned, halfWarpShuffle, blocksAdd, unwrittenShared,
      waitForThePhaseBefore, noExpectedBytes, fillsWhatIsRead, oneArrivalTooFew, wrongSwizzle
  }

  private static let plain = Result { try CUDAShim.program("planted.cpp", races: false) }
  private static let races = Result { try CUDAShim.program("planted.cpp", races: true) }

  /// By errors and wrong results, on whatever schedule; blocks run one by one here, so what they do to each other is not
  /// seen.
  @Test(arguments: Mistake.allCases.filter { $0 != .blocksAdd })
  func errorsAndResultsShowIt(_ mistake: Mistake) throws {
    guard let program = try EmulatorTests.plain.get() else { return }
    let result = try CUDAShim.run([program, "\(mistake.rawValue)"])
    #expect(result.status == (mistake == .none ? 0 : 1), "\(result.output)")
    let message: String? =
      switch mistake {
      case .pastTheEnd: "an illegal address"
      case .divergentBarrier: "reached by 40 of 64 threads"
      case .pastSharedArray: "an index outside its array"
      case .misaligned: "a misaligned address"
      case .halfWarpShuffle: "warp 0 diverged"
      case .noExpectedBytes: "ends with copies under way"
      case .oneArrivalTooFew: "that nothing ends"
      default: nil
      }
    if let message { #expect(result.output.contains(message)) }
    // Errors don't depend on the schedule.
    if message != nil { #expect(result.output.contains("4 of 4 schedules")) }
  }

  /// As races, whatever the results.
  @Test(arguments: [
    Mistake.none, .noBarrierAfterLoad, .noBarrierBeforeOverwrite, .noWarpBarrier, .blocksAdd,
    .fillsWhatIsRead, .waitForThePhaseBefore,
  ])
  func theRaceCheckShowsIt(_ mistake: Mistake) throws {
    guard let program = try EmulatorTests.races.get() else { return }
    let result = try CUDAShim.run([program, "\(mistake.rawValue)"], ["TSAN_OPTIONS": "halt_on_error=1"])
    // 66 is what the sanitizer ends with.
    #expect(result.status == (mistake == .none ? 0 : 66), "\(result.output)\(result.errors)")
    if mistake != .none { #expect(result.errors.contains("data race")) }
  }
}
