#ifndef FLOW_FFT_H
#define FLOW_FFT_H

// Owned by FlowAudio's author: real and complex FFT.

#endif
