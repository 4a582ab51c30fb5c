// Connectionist temporal classification (Graves et al. 2006); a block per row. Sums over alignments are kept as logarithms
// in double precision: those of a thousand steps span more than a float's range.

enum { THREADS = 128 };

DEVICE double no_way() { return -(double)INFINITY; }

/// e to the power of x, at most 0, to 1e-14; 0 below what float32 holds. x = n ln 2 + r, Taylor's polynomial in r. The
/// library's functions would be calls, with a stack.
DEVICE double power(double x) {
  if (x < -87.0) return 0;
  float n = rintf((float)x * 1.44269504f);
  double r = x - (double)n * 0.69314718055994530942, sum = 1;
#pragma unroll
  for (int k = 12; k > 0; k--) sum = 1 + sum * r * (1.0 / k);
  return sum * (double)__int_as_float(((int)n + 127) << 23);
}

/// log of the sum of e to the power of three; NaN if any is.
DEVICE double log_sum(double a, double b, double c) {
  double most = a;
  if (b > most || b != b) most = b;
  if (c > most || c != c) most = c;
  if (most == no_way()) return most;
  double sum = power(a - most) + power(b - most) + power(c - most);
  // A step of Newton's from the logarithm in single precision.
  double near = (double)logf((float)sum), rest = sum * power(-near) - 1;
  return most + near + rest - 0.5 * rest * rest;
}

/// Whether a state may come right after the one but one before.
DEVICE bool skips(const int *states, i64 s) { return s >= 2 && states[s] != 0 && states[s] != states[s - 2]; }

/// `work` holds for each row: forward sums [steps, most] and two rows of backward sums [most] as doubles, then the
/// classes of the states, and for each state the next of its class, and whether it is the first; most = 2 width + 1.
KERNEL(128)
ctc(float *losses, float *occupancy, const float *x, const int *labels, double *work, i64 steps, i64 classes, i64 width) {
  __shared__ int shared_count;
  i64 row = blockIdx.x, most = 2 * width + 1, each = most * (steps + 2) + (3 * most + 1) / 2;
  double *forward = work + row * each, *now = forward + most * steps, *after = now + most;
  int *states = (int *)(after + most), *next = states + most, *first = next + most;
  x += row * steps * classes, occupancy += row * steps * classes, labels += row * width;
  if (threadIdx.x == 0) {
    int count = 1;
    states[0] = 0;
    for (i64 i = 0; i < width; i++)
      if (labels[i] > 0 && labels[i] < classes) states[count] = labels[i], states[count + 1] = 0, count += 2;
    shared_count = count;
  }
  __syncthreads();
  int count = shared_count;
  for (int s = threadIdx.x; s < count; s += THREADS) {
    int other = s + 1, before = s - 1;
    while (other < count && states[other] != states[s]) other++;
    while (before >= 0 && states[before] != states[s]) before--;
    next[s] = other, first[s] = before < 0;
    forward[s] = s < 2 ? (double)x[states[s]] : no_way();
  }
  for (i64 i = threadIdx.x; i < steps * classes; i += THREADS) occupancy[i] = 0;
  __syncthreads();
  for (i64 t = 1; t < steps; t++) {
    const double *last = forward + (t - 1) * count;
    for (int s = threadIdx.x; s < count; s += THREADS) {
      double sum = log_sum(last[s], s >= 1 ? last[s - 1] : no_way(), skips(states, s) ? last[s - 2] : no_way());
      forward[t * count + s] = sum + (double)x[t * classes + states[s]];
    }
    __syncthreads();
  }
  const double *end = forward + (steps - 1) * count;
  double total = log_sum(end[count - 1], count > 1 ? end[count - 2] : no_way(), no_way());
  // Labels that can't come in so many steps are left out.
  if (threadIdx.x == 0) losses[row] = total == no_way() ? 0.0f : (float)-total;
  if (total == no_way()) return;
  for (i64 t = steps - 1; t >= 0; t--) {
    const float *y = x + (t + 1) * classes;
    for (int s = threadIdx.x; s < count; s += THREADS) {
      if (t == steps - 1) {
        now[s] = s >= count - 2 ? 0 : no_way();
      } else {
        double stay = after[s] + (double)y[states[s]];
        double one = s + 1 < count ? after[s + 1] + (double)y[states[s + 1]] : no_way();
        double two = s + 2 < count && skips(states, s + 2) ? after[s + 2] + (double)y[states[s + 2]] : no_way();
        now[s] = log_sum(stay, one, two);
      }
    }
    __syncthreads();
    // A class's states are added in their order by the thread of the first.
    for (int s = threadIdx.x; s < count; s += THREADS) {
      if (!first[s]) continue;
      float sum = 0;
      for (int k = s; k < count; k = next[k]) sum += (float)power(forward[t * count + k] + now[k] - total);
      occupancy[t * classes + states[s]] = sum;
    }
    double *swap = now;
    now = after, after = swap;
  }
}
