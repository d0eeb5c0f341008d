// A training step of MobileNetV2 (alpha 1) for CPUs: forward, backward, AdamW. float32, AVX-512.
//
// Frameworks are bound by memory here: they write every convolution, normalization and ReLU6 to
// memory and read it again, forward and backward. Here only the convolutions' raw outputs are kept;
// normalization and ReLU6 are applied where they are read, in cache, and the sums that batch
// normalization needs are taken where its input is written.
//
// Activations are NHWC. Names: z is a convolution's output, y = scale * z + shift its normalized
// value, a = relu6(y); d is the gradient by y, dz by z.
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace {

constexpr float kEpsilon = 1e-3f;
enum Kind { kStem, kDepthwise, kPointwise };

using Buffer = std::vector<float>;

struct Layer {
    Kind kind;
    int cin, cout, stride, hin, hout;
    bool relu;       // of this layer's output
    bool from_sum;   // reads a block's output, not the previous layer's activation
    int block;       // for projections: index of the block that this closes, else -1
    bool residual;   // for projections: adds the block's input
    size_t kernel, gamma, beta;  // offsets into the parameters
    Buffer z, d, mean, inv, scale, shift, dgamma, dbeta, moving_mean, moving_var;
    long rows(int batch) const { return long(batch) * hout * hout; }
    size_t kernel_size() const {
        if (kind == kStem) return size_t(27) * cout;
        return kind == kDepthwise ? size_t(9) * cout : size_t(cin) * cout;
    }
};

struct Net {
    int batch, side;
    std::vector<Layer> layers;
    std::vector<Buffer> sums;     // outputs of blocks
    std::vector<int> projection;  // layer that closes a block
    Buffer images;                // of the last forward pass
    size_t parameters = 0;
};

// ---- matrix products -----------------------------------------------------------------------

// c[m, n] (+)= sum_k a[m * am + k * ak] * b[k * ldb + n], for MR rows and NV vectors of columns.
template <int MR, int NV>
void tile(long k, const float* a, long am, long ak, const float* b, long ldb, float* c, long ldc,
          __mmask16 last, bool add) {
    __m512 acc[MR][NV];
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NV; j++) acc[i][j] = _mm512_setzero_ps();
    for (long p = 0; p < k; p++) {
        __m512 row[NV];
        for (int j = 0; j < NV; j++)
            row[j] = _mm512_maskz_loadu_ps(j == NV - 1 ? last : 0xffff, b + p * ldb + 16 * j);
        for (int i = 0; i < MR; i++) {
            __m512 x = _mm512_set1_ps(a[i * am + p * ak]);
            for (int j = 0; j < NV; j++) acc[i][j] = _mm512_fmadd_ps(x, row[j], acc[i][j]);
        }
    }
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NV; j++) {
            __mmask16 mask = j == NV - 1 ? last : 0xffff;
            float* to = c + i * ldc + 16 * j;
            if (add) acc[i][j] = _mm512_add_ps(acc[i][j], _mm512_maskz_loadu_ps(mask, to));
            _mm512_mask_storeu_ps(to, mask, acc[i][j]);
        }
}

template <int MR, int NV>
void strip(long m, long k, const float* a, long am, long ak, const float* b, long ldb, float* c,
           long ldc, __mmask16 last, bool add) {
    long i = 0;
    for (; i + MR <= m; i += MR)
        tile<MR, NV>(k, a + i * am, am, ak, b, ldb, c + i * ldc, ldc, last, add);
    for (; i + 4 <= m; i += 4)
        tile<4, NV>(k, a + i * am, am, ak, b, ldb, c + i * ldc, ldc, last, add);
    for (; i < m; i++) tile<1, NV>(k, a + i * am, am, ak, b, ldb, c + i * ldc, ldc, last, add);
}

void multiply(long m, long n, long k, const float* a, long am, long ak, const float* b, long ldb,
              float* c, long ldc, bool add) {
    for (long j = 0; j < n;) {
        long width = std::min<long>(64, n - j);
        __mmask16 last = width % 16 ? (1 << (width % 16)) - 1 : 0xffff;
        switch ((width + 15) / 16) {
            case 4: strip<6, 4>(m, k, a, am, ak, b + j, ldb, c + j, ldc, last, add); break;
            case 3: strip<8, 3>(m, k, a, am, ak, b + j, ldb, c + j, ldc, last, add); break;
            case 2: strip<12, 2>(m, k, a, am, ak, b + j, ldb, c + j, ldc, last, add); break;
            default: strip<14, 1>(m, k, a, am, ak, b + j, ldb, c + j, ldc, last, add);
        }
        j += width;
    }
}

// ---- batch normalization -------------------------------------------------------------------

void activate(const Layer& l, const float* z, long rows, float* a) {
    const int c = l.cout;
    const float *s = l.scale.data(), *t = l.shift.data();
    for (long p = 0; p < rows; p++)
        for (int i = 0; i < c; i++)
            a[p * c + i] = std::min(std::max(z[p * c + i] * s[i] + t[i], 0.f), 6.f);
}

void add_moments(const float* z, long rows, int c, float* sum, float* square) {
    for (long p = 0; p < rows; p++)
        for (int i = 0; i < c; i++) {
            float x = z[p * c + i];
            sum[i] += x;
            square[i] += x * x;
        }
}

// Moments of the batch -> scale and shift; moving averages are for use after training.
void normalize(Layer& l, const float* p, const std::vector<double>& sum,
               const std::vector<double>& square, double count, bool training, float momentum) {
    for (int i = 0; i < l.cout; i++) {
        if (training) {
            double mean = sum[i] / count, var = std::max(square[i] / count - mean * mean, 0.0);
            l.mean[i] = mean;
            l.inv[i] = 1 / std::sqrt(var + kEpsilon);
            l.moving_mean[i] += (1 - momentum) * (float(mean) - l.moving_mean[i]);
            l.moving_var[i] += (1 - momentum) * (float(var) - l.moving_var[i]);
        } else {
            l.mean[i] = l.moving_mean[i];
            l.inv[i] = 1 / std::sqrt(l.moving_var[i] + kEpsilon);
        }
        l.scale[i] = p[l.gamma + i] * l.inv[i];
        l.shift[i] = p[l.beta + i] - l.mean[i] * l.scale[i];
    }
}

// Gradient by y, already masked in d -> sums that batch normalization's gradient needs.
void add_gradients(const Layer& l, const float* d, const float* z, long rows, float* dgamma,
                   float* dbeta) {
    const int c = l.cout;
    const float *mean = l.mean.data(), *inv = l.inv.data();
    for (long p = 0; p < rows; p++)
        for (int i = 0; i < c; i++) {
            float g = d[p * c + i];
            dbeta[i] += g;
            dgamma[i] += g * (z[p * c + i] - mean[i]) * inv[i];
        }
}

void mask_relu6(const Layer& l, const float* z, long rows, const float* da, float* d) {
    const int c = l.cout;
    const float *s = l.scale.data(), *t = l.shift.data();
    for (long p = 0; p < rows; p++)
        for (int i = 0; i < c; i++) {
            float y = z[p * c + i] * s[i] + t[i];
            d[p * c + i] = y > 0.f && y < 6.f ? da[p * c + i] : 0.f;
        }
}

// dz = of_d * d + of_z * z + constant, channel by channel.
struct Back {
    Buffer of_d, of_z, constant;
    Back(const Layer& l, const float* p, double count)
        : of_d(l.cout), of_z(l.cout), constant(l.cout) {
        for (int i = 0; i < l.cout; i++) {
            float a = p[l.gamma + i] * l.inv[i], k = a * l.inv[i] * float(l.dgamma[i] / count);
            of_d[i] = a;
            of_z[i] = -k;
            constant[i] = -a * float(l.dbeta[i] / count) + k * l.mean[i];
        }
    }
    void operator()(const float* d, const float* z, long rows, int c, float* dz) const {
        const float *a = of_d.data(), *b = of_z.data(), *k = constant.data();
        for (long p = 0; p < rows; p++)
            for (int i = 0; i < c; i++)
                dz[p * c + i] = a[i] * d[p * c + i] + b[i] * z[p * c + i] + k[i];
    }
};

// ---- one layer -----------------------------------------------------------------------------

long tile_rows(const Layer& l) {
    int width = (l.kind == kStem ? 27 : l.cin) + l.cout;
    return std::clamp<long>(98304 / width / 24 * 24, 72, 480);
}

void unfold(const Net& n, const Layer& l, long from, long rows, float* to) {
    const int pad = l.hin % 2 ? 1 : 0;
    for (long r = from; r < from + rows; r++) {
        long image = r / (l.hout * l.hout), at = r % (l.hout * l.hout);
        int y = at / l.hout * 2 - pad, x = at % l.hout * 2 - pad;
        float* row = to + (r - from) * 27;
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                for (int c = 0; c < 3; c++) {
                    bool in = y + i >= 0 && y + i < l.hin && x + j >= 0 && x + j < l.hin;
                    long pixel = (image * l.hin + y + i) * l.hin + x + j;
                    *row++ = in ? n.images[pixel * 3 + c] : 0.f;
                }
    }
}

// The rows that a 1x1 convolution or the stem reads, in a tile.
const float* inputs(const Net& n, int index, long from, long rows, float* to) {
    const Layer& l = n.layers[index];
    if (l.kind == kStem) {
        unfold(n, l, from, rows, to);
        return to;
    }
    if (l.from_sum) {
        int block = 0;
        for (int i = 0; i < index; i++)
            if (n.layers[i].block >= 0) block = n.layers[i].block;
        return n.sums[block].data() + from * l.cin;
    }
    activate(n.layers[index - 1], n.layers[index - 1].z.data() + from * l.cin, rows, to);
    return to;
}

void pad_image(const Layer& before, const float* z, int h, int pad, float* to) {
    const int c = before.cout, w = h + 2;
    std::memset(to, 0, sizeof(float) * w * w * c);
    for (int y = 0; y < h; y++)
        activate(before, z + long(y) * h * c, h, to + (long(y + pad) * w + pad) * c);
}

void forward_layer(Net& n, int index, const float* p, bool training, float momentum) {
    Layer& l = n.layers[index];
    const int c = l.cout;
    std::vector<double> sum(c, 0), square(c, 0);
#pragma omp parallel
    {
        Buffer s(c, 0), q(c, 0), temp;
        if (l.kind == kDepthwise) {
            const Layer& before = n.layers[index - 1];
            const int h = l.hin, w = h + 2, o = l.hout, st = l.stride;
            const int pad = st == 2 && h % 2 == 0 ? 0 : 1;
            temp.resize(size_t(w) * w * c);
#pragma omp for schedule(dynamic, 2)
            for (int b = 0; b < n.batch; b++) {
                pad_image(before, before.z.data() + size_t(b) * h * h * c, h, pad, temp.data());
                float* out = l.z.data() + size_t(b) * o * o * c;
                for (int i = 0; i < c; i += 16) {
                    __m512 k[9], s1 = _mm512_loadu_ps(&s[i]), s2 = _mm512_loadu_ps(&q[i]);
                    for (int t = 0; t < 9; t++) k[t] = _mm512_loadu_ps(p + l.kernel + t * c + i);
                    for (int y = 0; y < o; y++)
                        for (int x = 0; x < o; x++) {
                            const float* at = &temp[(size_t(y * st) * w + x * st) * c + i];
                            __m512 v = _mm512_setzero_ps(), u = v, r = v;
                            for (int j = 0; j < 3; j++) {
                                v = _mm512_fmadd_ps(k[j], _mm512_loadu_ps(at + j * c), v);
                                u = _mm512_fmadd_ps(k[3 + j], _mm512_loadu_ps(at + (w + j) * c), u);
                                r = _mm512_fmadd_ps(k[6 + j],
                                                    _mm512_loadu_ps(at + (2 * w + j) * c), r);
                            }
                            v = _mm512_add_ps(v, _mm512_add_ps(u, r));
                            _mm512_storeu_ps(out + size_t(y * o + x) * c + i, v);
                            s1 = _mm512_add_ps(s1, v);
                            s2 = _mm512_fmadd_ps(v, v, s2);
                        }
                    _mm512_storeu_ps(&s[i], s1);
                    _mm512_storeu_ps(&q[i], s2);
                }
            }
        } else {
            const int k = l.kind == kStem ? 27 : l.cin;
            const long rows = l.rows(n.batch), step = tile_rows(l);
            temp.resize(size_t(step) * k);
#pragma omp for schedule(dynamic, 1)
            for (long from = 0; from < rows; from += step) {
                long m = std::min(step, rows - from);
                const float* a = inputs(n, index, from, m, temp.data());
                float* out = l.z.data() + from * c;
                multiply(m, c, k, a, k, 1, p + l.kernel, c, out, c, false);
                add_moments(out, m, c, s.data(), q.data());
            }
        }
#pragma omp critical
        for (int i = 0; i < c; i++) sum[i] += s[i], square[i] += q[i];
    }
    normalize(l, p, sum, square, double(l.rows(n.batch)), training, momentum);
    if (l.block < 0) return;
    const float* in = l.residual ? n.sums[l.block - 1].data() : nullptr;
    float* out = n.sums[l.block].data();
    const long rows = l.rows(n.batch);
#pragma omp parallel for
    for (long r = 0; r < rows; r++)
        for (int i = 0; i < c; i++) {
            long at = r * c + i;
            out[at] = l.z[at] * l.scale[i] + l.shift[i] + (in ? in[at] : 0.f);
        }
}

void backward_layer(Net& n, int index, const float* p, float* g) {
    Layer& l = n.layers[index];
    const int c = l.cout;
    Back back(l, p, double(l.rows(n.batch)));
    std::copy(l.dgamma.begin(), l.dgamma.end(), g + l.gamma);
    std::copy(l.dbeta.begin(), l.dbeta.end(), g + l.beta);
    std::fill(g + l.kernel, g + l.kernel + l.kernel_size(), 0.f);
    Layer* before = index ? &n.layers[index - 1] : nullptr;
    const int ci = before ? before->cout : 0;
    if (before) {
        std::fill(before->dgamma.begin(), before->dgamma.end(), 0.f);
        std::fill(before->dbeta.begin(), before->dbeta.end(), 0.f);
    }
    Buffer turned;
    if (l.kind == kPointwise) {
        turned.resize(l.kernel_size());
        for (int i = 0; i < l.cin; i++)
            for (int j = 0; j < c; j++) turned[size_t(j) * l.cin + i] = p[l.kernel + size_t(i) * c + j];
    }
    // The sum that this expansion reads also went around its block, to the projection's output.
    const float* around = nullptr;
    if (l.from_sum)
        for (int i = index + 1; i < int(n.layers.size()) && i < index + 3; i++)
            if (n.layers[i].block >= 0 && n.layers[i].residual) around = n.layers[i].d.data();
#pragma omp parallel
    {
        Buffer dk(l.kernel_size(), 0), dgamma(ci, 0), dbeta(ci, 0), temp, dz, da;
        if (l.kind == kDepthwise) {
            const int h = l.hin, w = h + 2, o = l.hout, st = l.stride;
            const int pad = st == 2 && h % 2 == 0 ? 0 : 1;
            temp.resize(size_t(w) * w * c);
            da.resize(size_t(w) * w * c);
            dz.resize(size_t(o) * o * c);
#pragma omp for schedule(dynamic, 2)
            for (int b = 0; b < n.batch; b++) {
                const float* z = before->z.data() + size_t(b) * h * h * c;
                float* d = before->d.data() + size_t(b) * h * h * c;
                pad_image(*before, z, h, pad, temp.data());
                size_t at_out = size_t(b) * o * o * c;
                back(l.d.data() + at_out, l.z.data() + at_out, long(o) * o, c, dz.data());
                std::fill(da.begin(), da.end(), 0.f);
                for (int i = 0; i < c; i += 16) {
                    __m512 k[9], s[9];
                    for (int t = 0; t < 9; t++) {
                        k[t] = _mm512_loadu_ps(p + l.kernel + t * c + i);
                        s[t] = _mm512_loadu_ps(&dk[t * c + i]);
                    }
                    for (int y = 0; y < o; y++)
                        for (int x = 0; x < o; x++) {
                            __m512 v = _mm512_loadu_ps(&dz[size_t(y * o + x) * c + i]);
                            for (int t = 0; t < 9; t++) {
                                size_t at =
                                    (size_t(y * st + t / 3) * w + x * st + t % 3) * c + i;
                                s[t] = _mm512_fmadd_ps(v, _mm512_loadu_ps(&temp[at]), s[t]);
                                _mm512_storeu_ps(
                                    &da[at], _mm512_fmadd_ps(v, k[t], _mm512_loadu_ps(&da[at])));
                            }
                        }
                    for (int t = 0; t < 9; t++) _mm512_storeu_ps(&dk[t * c + i], s[t]);
                }
                for (int y = 0; y < h; y++) {
                    const float* row = &da[(size_t(y + pad) * w + pad) * c];
                    mask_relu6(*before, z + size_t(y) * h * c, h, row, d + size_t(y) * h * c);
                }
                add_gradients(*before, d, z, long(h) * h, dgamma.data(), dbeta.data());
            }
        } else {
            const int k = l.kind == kStem ? 27 : l.cin;
            const long rows = l.rows(n.batch), step = tile_rows(l);
            temp.resize(size_t(step) * k);
            da.resize(size_t(step) * k);
            dz.resize(size_t(step) * c);
#pragma omp for schedule(dynamic, 1)
            for (long from = 0; from < rows; from += step) {
                long m = std::min(step, rows - from);
                const float* a = inputs(n, index, from, m, temp.data());
                back(l.d.data() + from * c, l.z.data() + from * c, m, c, dz.data());
                multiply(k, c, m, a, 1, k, dz.data(), c, dk.data(), c, true);
                if (l.kind == kStem) continue;
                multiply(m, k, c, dz.data(), c, 1, turned.data(), k, da.data(), k, false);
                const float* z = before->z.data() + from * k;
                float* d = before->d.data() + from * k;
                if (!l.from_sum) mask_relu6(*before, z, m, da.data(), d);
                else if (around)
                    for (long i = 0; i < m * k; i++) d[i] = da[i] + around[from * k + i];
                else
                    std::copy(da.begin(), da.begin() + m * k, d);
                add_gradients(*before, d, z, m, dgamma.data(), dbeta.data());
            }
        }
#pragma omp critical
        {
            for (size_t i = 0; i < dk.size(); i++) g[l.kernel + i] += dk[i];
            for (int i = 0; i < ci; i++) {
                before->dgamma[i] += dgamma[i];
                before->dbeta[i] += dbeta[i];
            }
        }
    }
}

void add_layer(Net& n, Kind kind, int cin, int cout, int stride, int hin, bool relu) {
    Layer l{};
    l.kind = kind, l.cin = cin, l.cout = cout, l.stride = stride, l.hin = hin;
    l.hout = (hin + stride - 1) / stride, l.relu = relu, l.block = -1;
    l.kernel = n.parameters;
    l.gamma = l.kernel + l.kernel_size();
    l.beta = l.gamma + cout;
    n.parameters = l.beta + cout;
    for (Buffer* b : {&l.mean, &l.inv, &l.scale, &l.shift, &l.dgamma, &l.dbeta, &l.moving_mean})
        b->assign(cout, 0.f);
    l.moving_var.assign(cout, 1.f);
    l.z.resize(l.rows(n.batch) * cout);
    l.d.resize(l.rows(n.batch) * cout);
    n.layers.push_back(std::move(l));
}

}  // namespace

extern "C" {

void* net_new(int batch, int side) {
    Net* n = new Net{batch, side};
    n->images.resize(size_t(batch) * side * side * 3);
    add_layer(*n, kStem, 3, 32, 2, side, true);
    // Expansion, channels, repeats, first stride: table 2 of Sandler et al., CVPR 2018.
    const int table[7][4] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                             {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    int c = 32, h = n->layers[0].hout;
    for (auto& [expand, out, repeats, first] : table)
        for (int i = 0; i < repeats; i++) {
            int stride = i ? 1 : first;
            if (expand > 1) {
                add_layer(*n, kPointwise, c, c * expand, 1, h, true);
                n->layers.back().from_sum = true;
            }
            add_layer(*n, kDepthwise, c * expand, c * expand, stride, h, true);
            h = n->layers.back().hout;
            add_layer(*n, kPointwise, c * expand, out, 1, h, false);
            Layer& l = n->layers.back();
            l.block = int(n->sums.size());
            l.residual = i > 0;
            n->sums.emplace_back(l.rows(batch) * out);
            c = out;
        }
    add_layer(*n, kPointwise, c, 1280, 1, h, true);
    n->layers.back().from_sum = true;
    return n;
}

void net_free(void* handle) { delete static_cast<Net*>(handle); }

long net_parameters(void* handle) { return long(static_cast<Net*>(handle)->parameters); }

int net_layers(void* handle) { return int(static_cast<Net*>(handle)->layers.size()); }

// kind, cin, cout, offset of the kernel
void net_layer(void* handle, int index, long* out) {
    const Layer& l = static_cast<Net*>(handle)->layers[index];
    out[0] = l.kind, out[1] = l.cin, out[2] = l.cout, out[3] = long(l.kernel);
}

float* net_moving(void* handle, int index, int variance) {
    Layer& l = static_cast<Net*>(handle)->layers[index];
    return (variance ? l.moving_var : l.moving_mean).data();
}

// images (batch, side, side, 3) in -1..1 -> features (batch, 1280)
void net_forward(void* handle, const float* p, const float* images, float* features, int training,
                 float momentum) {
    Net& n = *static_cast<Net*>(handle);
    std::copy(images, images + n.images.size(), n.images.begin());
    for (int i = 0; i < int(n.layers.size()); i++)
        forward_layer(n, i, p, training != 0, momentum);
    const Layer& l = n.layers.back();
    const int pixels = l.hout * l.hout, c = l.cout;
#pragma omp parallel
    {
        Buffer a(size_t(pixels) * c);
#pragma omp for
        for (int b = 0; b < n.batch; b++) {
            activate(l, l.z.data() + size_t(b) * pixels * c, pixels, a.data());
            float* f = features + size_t(b) * c;
            std::fill(f, f + c, 0.f);
            for (int p = 0; p < pixels; p++)
                for (int i = 0; i < c; i++) f[i] += a[size_t(p) * c + i] / pixels;
        }
    }
}

// What the last block gives, pooled over pixels: (batch, channels).
void net_last_block(void* handle, float* out) {
    Net& n = *static_cast<Net*>(handle);
    const Layer& l = n.layers[n.layers.size() - 2];
    const int pixels = l.hout * l.hout, c = l.cout;
    std::fill(out, out + size_t(n.batch) * c, 0.f);
    for (long r = 0; r < l.rows(n.batch); r++)
        for (int i = 0; i < c; i++) out[r / pixels * c + i] += n.sums.back()[r * c + i] / pixels;
}

// gradient by the features (batch, 1280) -> gradient by the parameters
void net_backward(void* handle, const float* p, const float* dfeatures, float* g) {
    Net& n = *static_cast<Net*>(handle);
    Layer& l = n.layers.back();
    const int pixels = l.hout * l.hout, c = l.cout;
    std::fill(l.dgamma.begin(), l.dgamma.end(), 0.f);
    std::fill(l.dbeta.begin(), l.dbeta.end(), 0.f);
#pragma omp parallel
    {
        Buffer dgamma(c, 0), dbeta(c, 0), da(size_t(pixels) * c);
#pragma omp for
        for (int b = 0; b < n.batch; b++) {
            for (int p = 0; p < pixels; p++)
                for (int i = 0; i < c; i++)
                    da[size_t(p) * c + i] = dfeatures[size_t(b) * c + i] / pixels;
            size_t at = size_t(b) * pixels * c;
            mask_relu6(l, &l.z[at], pixels, da.data(), &l.d[at]);
            add_gradients(l, &l.d[at], &l.z[at], pixels, dgamma.data(), dbeta.data());
        }
#pragma omp critical
        for (int i = 0; i < c; i++) l.dgamma[i] += dgamma[i], l.dbeta[i] += dbeta[i];
    }
    for (int i = int(n.layers.size()) - 1; i >= 0; i--) backward_layer(n, i, p, g);
}

// AdamW (Loshchilov and Hutter, ICLR 2019); `decay` holds 1 where weights decay.
void adamw(long n, float* p, const float* g, float* m, float* v, const float* decay, float rate,
           float weight_decay, float beta1, float beta2, long step) {
    const float c1 = 1 / (1 - std::pow(beta1, float(step)));
    const float c2 = 1 / (1 - std::pow(beta2, float(step)));
#pragma omp parallel for
    for (long i = 0; i < n; i++) {
        m[i] += (1 - beta1) * (g[i] - m[i]);
        v[i] += (1 - beta2) * (g[i] * g[i] - v[i]);
        p[i] -= rate * (m[i] * c1 / (std::sqrt(v[i] * c2) + 1e-8f) + weight_decay * decay[i] * p[i]);
    }
}
}
