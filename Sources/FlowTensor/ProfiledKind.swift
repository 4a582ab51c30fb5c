/// What steps alike took, and what they can't do without: those of one op, with values of the same shapes and types.
package struct ProfiledKind {
  /// What goes in or comes out.
  package struct Value: Hashable, CustomStringConvertible {
    package let shape: [Int]
    package let dtype: DType
    package var description: String { "\(shape) \(dtype.rawValue)" }
  }

  /// Their op's name, and the module that recorded the first.
  package let op: String
  package let path: String
  /// Those of each; of merged ones, those of the first.
  package let inputs: [Value]
  package let outputs: [Value]
  /// How many there are; those that the backend merges are one.
  package let count: Int
  /// The steps of the program that they are.
  package let steps: Int
  /// The sum of what they took, the median of each one's runs. Each ran alone: its launching is in it.
  package let seconds: Double
  /// What all of them took when they ran one after another; `nil` where that wasn't or can't be measured.
  package let together: Double?
  /// What all of them took when each found nothing of its memory in the device's caches; `nil` where that wasn't or can't be measured.
  package let cold: Double?
  /// Their floating-point operations, and whether these can go at the speed of the matrix product.
  package let flops: Int
  package let isProduct: Bool
  /// What each reads, counted once, and what it writes, as they are kept.
  package let bytes: Int
}

extension Program {
  /// Where the time of a run goes, by kinds of steps: those first that take most. All steps run alone and in order `runs` times,
  /// the inputs being as the last run left them, so that an assigned parameter goes on changing.
  ///
  /// Then the first `most` kinds run with the steps of a kind one after another, where these use memory of `least` bytes
  /// or more, which should be well more than the device's caches hold. What a step writes may be where the one before it wrote, which a
  /// cache could still hold; so kinds that aren't products and move `cold` bytes or more run with nothing left there as well.
  ///
  /// Values in the program's own memory are spoiled by that, as others lie there by now, but no parameter: kinds that write one
  /// aren't run out of turn, nor those that read indices which the program computes.
  /// - Throws: `TensorError.device` when the device is lost.
  package func profile(
    runs: Int = 5, together most: Int = 0, least: Int = 0, cold: Int? = nil
  ) throws(TensorError) -> [ProfiledKind] {
    guard let kernels else { return [] }
    let works = Dictionary(grouping: steps.indices) { kernels.doer(of: $0) }
      .sorted { $0.key < $1.key }.map(\.value)
    var times = works.map { _ in [Double]() }
    for _ in 0..<runs {
      for (index, work) in works.enumerated() {
        times[index] += try kernels.time(steps: [work[0]], runs: 1)
      }
    }
    var alike: [Alike: [(steps: [Int], seconds: Double)]] = [:]
    for (work, times) in zip(works, times) {
      alike[Alike(steps[work[0]], merged: work.count), default: []].append((work, Program.median(times)))
    }
    func seconds(_ works: [(steps: [Int], seconds: Double)]) -> Double {
      works.reduce(0) { $0 + $1.seconds }
    }
    // In the program's order where times are the same.
    let kinds = alike.sorted {
      (-seconds($0.value), $0.value[0].steps[0]) < (-seconds($1.value), $1.value[0].steps[0])
    }
    var result: [ProfiledKind] = []
    for (kind, works) in kinds {
      let (alone, all) = (seconds(works), works.flatMap(\.steps))
      let isProduct = steps[all[0]].op.isProduct
      var (together, withoutCaches): (Double?, Double?)
      let moved = works.reduce(0) { $0 + bytes(of: $1.steps) }
      if result.count < most, canRunOutOfTurn(all) {
        let (order, rounds) = Program.order(works.map { $0.steps[0] }, seconds: alone)
        func each(_ times: [Double]) -> Double { Program.median(times) / Double(rounds) }
        if memory(of: all) >= least { together = each(try kernels.time(steps: order, runs: 3)) }
        if let cold, moved >= cold, !isProduct {
          withoutCaches = try kernels.time(cold: order, runs: 3).map(each)
        }
      }
      result.append(
        ProfiledKind(
          op: kind.op, path: steps[all[0]].path, inputs: kind.inputs, outputs: kind.outputs,
          count: works.count, steps: all.count, seconds: alone, together: together, cold: withoutCaches,
          flops: all.reduce(0) {
            $0 + steps[$1].op.flops(steps[$1].inputs.map(\.shape), steps[$1].outputs.map(\.shape))
          },
          isProduct: isProduct, bytes: moved))
    }
    return result
  }

  /// What makes steps alike.
  private struct Alike: Hashable {
    let op: String
    let inputs: [ProfiledKind.Value]
    let outputs: [ProfiledKind.Value]
    let merged: Int

    init(_ step: Step, merged: Int) {
      (op, self.merged) = (step.op.name, merged)
      inputs = step.inputs.map { ProfiledKind.Value(shape: $0.shape, dtype: $0.dtype) }
      outputs = step.outputs.map { ProfiledKind.Value(shape: $0.shape, dtype: $0.dtype) }
    }
  }

  private static func median(_ times: [Double]) -> Double {
    times.isEmpty ? 0 : times.sorted()[times.count / 2]
  }

  /// Steps one after another that take `seconds`: over and over where they are few, so that where they begin and end doesn't
  /// count.
  private static func order(_ works: [Int], seconds: Double) -> (order: [Int], rounds: Int) {
    let (launches, longest) = (16, 3e-3)
    let enough = (launches + works.count - 1) / works.count
    let rounds = max(1, min(enough, Int(longest / max(seconds, 1e-6))))
    return ((0..<rounds).flatMap { _ in works }, rounds)
  }

  /// Whether steps may find other values than theirs: they write none that is needed later, and read no indices of those.
  private func canRunOutOfTurn(_ numbers: [Int]) -> Bool {
    numbers.allSatisfy { number in
      steps[number].outputs.allSatisfy { $0.slot.buffer === arena }
        && steps[number].inputs.allSatisfy { $0.dtype != .int32 || $0.slot.buffer !== arena }
    }
  }

  /// Bytes that steps read and write when they are one.
  private func bytes(of numbers: [Int]) -> Int {
    if numbers.contains(where: { steps[$0].op.isView }) { return 0 }
    return Program.extent(numbers.flatMap { steps[$0].inputs })
      + Program.extent(numbers.flatMap { steps[$0].outputs })
  }

  /// Bytes of the memory that steps use, each counted once.
  private func memory(of numbers: [Int]) -> Int {
    Program.extent(numbers.flatMap { steps[$0].inputs + steps[$0].outputs })
  }

  /// Bytes that values take, those where several lie counted once.
  private static func extent(_ values: [(slot: Slot, shape: [Int], dtype: DType)]) -> Int {
    var total = 0
    for values in Dictionary(grouping: values, by: { ObjectIdentifier($0.slot.buffer) }).values {
      let ranges = values.map { value in
        let start = value.slot.offset * 4
        return start..<start + value.shape.elements * value.dtype.size
      }
      var end = 0
      for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) where range.upperBound > end {
        total += range.upperBound - max(end, range.lowerBound)
        end = range.upperBound
      }
    }
    return total
  }
}
