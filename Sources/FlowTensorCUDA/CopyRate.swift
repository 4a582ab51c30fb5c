import CCUDA
package import FlowTensor

extension CUDABackend {
  /// Bytes of the cache that all multiprocessors share.
  package var cache: Int { device.cache }

  /// Bytes per second, read and written together, of copies within the device's memory; of each of `sizes`, which are bytes,
  /// whole words. Copies of a size follow one another, each between other places, and take twice the largest size meanwhile.
  /// - Throws: `TensorError.outOfMemory`, `.device`.
  package func copyRates(_ sizes: [Int]) throws(TensorError) -> [Double] {
    let all = sizes.max() ?? 0
    let from = try CUDABuffer(device, all / 4)
    let to = try CUDABuffer(device, all / 4)
    var rates: [Double] = []
    for size in sizes {
      let places = stride(from: UInt64(0), to: UInt64(all / size * size), by: size)
      // The first time hides what the host does for the next.
      let times = try device.seconds(of: "copying", runs: 6) { () throws(TensorError) in
        for place in places {
          try CUDADevice.check(
            flow_cuMemcpyDtoDAsync(to.address + place, from.address + place, size, device.stream), "copying")
        }
      }
      let median = times.dropFirst().sorted()[2]
      rates.append(Double(2 * all / size * size) / median)
    }
    return rates
  }
}
