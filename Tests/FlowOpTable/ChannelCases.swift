@testable import FlowTensor

extension OpCase {
  /// Convolutions of as many channels as networks have, which devices compute in other ways than those of few.
  static let channels: [OpCase] = {
    func row(
      _ x: [Int], _ w: [Int], stride: Int = 1, padding: Int = 0, dilation: Int = 1
    ) -> OpCase {
      OpCase(
        Convolve(geometry: ConvolutionShape(stride: stride, padding: padding, dilation: dilation)), [x, w])
    }
    func image(_ x: [Int], _ w: [Int], stride: [Int] = [1, 1], padding: [Int], dilation: [Int] = [1, 1])
      -> OpCase
    {
      OpCase(
        Convolve2D(geometry: ConvolutionShape2D(stride: stride, padding: padding, dilation: dilation)),
        [x, w])
    }
    return [
      row([2, 24, 300], [24, 24, 7], padding: 9, dilation: 3), row([1, 48, 150], [48, 48, 11], padding: 5),
      row([2, 64, 20], [96, 64, 7], padding: 3), row([1, 40, 19], [130, 40, 3], padding: 1),
      row([1, 192, 37], [70, 192, 3], padding: 1), row([3, 8, 6], [16, 8, 20], stride: 10, padding: 9),
      row([1, 96, 40], [48, 96, 7], stride: 3, padding: 2), row([1, 24, 140], [1, 24, 7], padding: 3),
      image([1, 32, 5, 40], [32, 32, 3, 9], stride: [1, 2], padding: [1, 4]),
      image([1, 32, 9, 17], [1, 32, 3, 3], padding: [1, 1]),
      image([2, 16, 30, 3], [72, 16, 5, 1], stride: [3, 1], padding: [2, 0]),
      image([1, 136, 7, 9], [130, 136, 3, 3], padding: [2, 1], dilation: [2, 1]),
    ]
  }()
}
