import Testing

@testable import FlowTensorCUDA

/// What may run at once on a device.
@Suite struct StepOrderTests {
  @Test func whatIsReadWaitsForItsWriterAndWhatIsWrittenForItsReaders() {
    var order = StepOrder()
    #expect(order.add(0, reads: [], writes: [0..<100]) == [])
    #expect(order.add(1, reads: [], writes: [100..<200]) == [])
    #expect(order.add(2, reads: [40..<60], writes: [200..<300]) == [0])
    #expect(order.add(3, reads: [90..<110], writes: [300..<400]) == [0, 1])
    #expect(order.add(4, reads: [0..<10], writes: [400..<500]) == [0])
    // Over the memory that steps 2, 3 and 4 read.
    #expect(order.add(5, reads: [], writes: [0..<100]) == [0, 2, 3, 4])
    // Steps 0 and 2 to 4 are before step 5 already.
    #expect(order.add(6, reads: [], writes: [20..<80]) == [5])
    #expect(order.add(7, reads: [0..<100], writes: []) == [5, 6])
  }

  @Test func inPlaceAStepDoesNotWaitForItself() {
    var order = StepOrder()
    #expect(order.add(0, reads: [0..<8], writes: [0..<8]) == [])
    #expect(order.add(1, reads: [0..<8], writes: [0..<8]) == [0])
    #expect(order.add(2, reads: [8..<8], writes: [4..<4]) == [])
  }

  @Test func scratchIsSharedOnlyWhereItMustBe() {
    let small = [Int](repeating: 1000, count: 10)
    var ring = ScratchRing(small)
    let starts = small.map { ring.take($0) }
    #expect(Set(starts).count == 10)
    #expect(starts.allSatisfy { $0 % 256 == 0 && $0 + 1000 <= ring.bytes })
    // More than there is room for goes round.
    let large = [Int](repeating: 300 << 20, count: 10)
    var full = ScratchRing(large)
    #expect(full.bytes < 1 << 30)
    #expect(large.allSatisfy { full.take($0) + $0 <= full.bytes })
  }
}
