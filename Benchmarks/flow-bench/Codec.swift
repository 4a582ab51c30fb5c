import FlowCore
import FlowStore
import Foundation

/// Puts each file into a store and takes it out again until that took half a second of CPU time each; large ones from
/// file to file.
func timeCodec(_ folder: String, _ paths: [String]) throws {
  let store = try Store(root: folder)
  for path in paths {
    guard let bytes = FileBytes.read(path), !bytes.isEmpty else { fail("can't read \(path)") }
    let isLarge = bytes.count > 64 << 20
    let copy = folder + "/tmp/copy"
    var (into, out, runs) = (0.0, 0.0, 0)
    var size = 0
    while into < 0.5 || out < 0.5 {
      let start = cpuSeconds()
      let digest = isLarge ? try store.put(contentsOf: path).digest : try store.put(bytes)
      let middle = cpuSeconds()
      let isSame: Bool
      if isLarge {
        try store.materialise(digest, at: copy)
        isSame = true
      } else {
        isSame = try store.get(digest) == bytes
      }
      out += cpuSeconds() - middle
      into += middle - start
      guard isSame else { fail("\(path) came back otherwise") }
      size = store.diskSize(digest)
      store.remove(digest)
      unlink(copy)
      runs += 1
    }
    let megabytes = Double(bytes.count) * Double(runs) / 1e6
    let name = (path as NSString).lastPathComponent
    print(
      String(
        format: "%@ %d %.4f %.0f %.0f", name, bytes.count, Double(size) / Double(bytes.count),
        megabytes / into, megabytes / out))
  }
}

/// The rate of digesting a file.
func timeHash(_ path: String) throws {
  var best = 0.0
  for _ in 0..<5 {
    let start = Date()
    guard let (_, size) = StatCache.hash(path) else { fail("can't read \(path)") }
    best = max(best, Double(size) / 1e6 / Date().timeIntervalSince(start))
  }
  print(String(format: "%.0f", best))
}
