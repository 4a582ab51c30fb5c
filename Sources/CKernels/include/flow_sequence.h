#ifndef FLOW_SEQUENCE_H
#define FLOW_SEQUENCE_H

/// re, im [rows * frames, size / 2 + 1] of frames of x [rows, length] that begin every `hop` samples, times the window.
void flow_fourier(int threads, float *re, float *im, const float *x, const float *window, long rows, long length,
                  long frames, long size, long hop);
/// The transpose in x; `work` holds rows * frames * size floats.
void flow_fourier_back(int threads, float *x, const float *re, const float *im, const float *window, long rows,
                       long length, long frames, long size, long hop, float *work);

typedef struct {
  long steps, batch, units;
  int reverse;
} flow_lstm_size;

/// h, c [steps, batch, units] and the values of the gates [steps, batch, 4 units] from the steps' share x of the gates,
/// the recurrent weight w [4 units, units] and the state before.
void flow_lstm(int threads, flow_lstm_size s, float *h, float *c, float *gates, const float *x, const float *w,
               const float *h0, const float *c0);
/// The gradients of x, h0 and c0 from those of h and c.
void flow_lstm_back(int threads, flow_lstm_size s, float *dx, float *dh0, float *dc0, const float *gh, const float *gc,
                    const float *w, const float *c0, const float *c, const float *gates);

/// Losses [rows] of connectionist temporal classification and how probable each class is at each step given the labels,
/// [rows, steps, classes], from log-probabilities of that shape and labels [rows, width] in which zeros are passed over; work has
/// 2 (2 width + 1) (steps + 2) + 2 width + 2 floats for each row.
void flow_ctc(int threads, float *losses, float *occupancy, const float *x, const int *labels, float *work, long rows,
              long steps, long classes, long width);

#endif
