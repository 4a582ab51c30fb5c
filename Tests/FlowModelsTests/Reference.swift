import FlowCore
import FlowNN
import FlowTensor
import FlowTestSupport
import Foundation
import Testing

/// A golden safetensors file with its sidecar.
struct Reference {
  let file: SafetensorsFile
  let sidecar: JSON
  var config: JSON { sidecar["config"] ?? .null }

  /// The file `diffrhythm2/NAME.safetensors`, when it is there.
  init?(_ name: String) throws {
    guard let url = Golden.file("diffrhythm2/\(name).safetensors") else { return nil }
    file = try SafetensorsFile(path: url.path)
    let json = Golden.root.appendingPathComponent("diffrhythm2/\(name).json")
    sidecar = try JSON(parsing: Data(contentsOf: json))
  }

  /// The number that follows `words` in the sidecar's description.
  func described(_ words: String) -> Double? {
    guard let text = sidecar["description"]?.text, let place = text.range(of: words) else { return nil }
    let number = text[place.upperBound...].prefix { $0.isNumber || $0 == "." }
    return Double(number.hasSuffix(".") ? number.dropLast() : number)
  }

  subscript(name: String) -> HostTensor {
    get throws { try file.tensor(name) }
  }

  func shape(_ name: String) throws -> [Int] { try file.tensor(name).shape }

  func mask(_ name: String) throws -> HostTensor { try file.tensor(name).cast(to: .bool) }

  func floats(_ name: String) throws -> HostTensor {
    let tensor = try file.tensor(name)
    return try HostTensor(tensor.floats, tensor.shape)
  }
}

/// ‖a - b‖ / ‖b‖; the norm of a when b is nearly nothing. Norms below `floor` count as it.
func relativeError(_ a: [Float], _ b: [Float], floor: Double = 0) -> Double {
  precondition(a.count == b.count, "\(a.count) values against \(b.count)")
  var (difference, norm) = (0.0, 0.0)
  for (x, y) in zip(a, b) {
    difference += Double(x - y) * Double(x - y)
    norm += Double(y) * Double(y)
  }
  return norm.squareRoot() < 1e-7
    ? difference.squareRoot() : difference.squareRoot() / max(norm.squareRoot(), floor)
}

func expectClose(_ a: HostTensor?, _ b: HostTensor, _ bar: Double, _ what: String, floor: Double = 0) {
  guard let a else {
    Issue.record("no value for \(what)")
    return
  }
  #expect(a.shape == b.shape, "\(what): shape")
  guard a.shape == b.shape else { return }
  let error = relativeError(a.floats, b.floats, floor: floor)
  #expect(error <= bar, "\(what): relative error \(error)")
}
