// The kernels as operations of TensorFlow's: forward, backward, and from the latter's ∂L/∂a_t the gradient of the inputs, which is
// an operation of its own so that a graph leaves it out where nobody asks for it. There is no arithmetic here: what is called
// comes from the library of kernels, whose addresses `rnn_attach` is given once.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#endif

#include "absl/strings/str_cat.h"
#include "recurrent.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;

template <class... Words> absl::Status invalid(const Words&... words) { return absl::InvalidArgumentError(absl::StrCat(words...)); }

struct Kernels {
    int (*forward)(const rnn_call*);
    int (*backward)(const rnn_call*);
    int (*input_gradient)(const rnn_call*);
    int32_t (*units)(int32_t, int32_t);
    int32_t (*gates)(int32_t);
    int32_t (*keeps)(int32_t);
} kernels = {};

// Threads of TensorFlow's pool for one call. A pool does not promise that all work at once, and a call's members wait for each
// other: so whoever has come in time is a member, and who comes later goes away again. Who is woken on the caller's processor, of
// which two cannot use more than one, moves to another.
class Team {
  public:
    static void parallel(void (*body)(void*), void* context, unsigned threads, unsigned) {
        auto gate = std::make_shared<Gate>();
        for (unsigned i = 1; i < threads; ++i)
            pool->Schedule([gate, body, context] {
                if (!gate->open()) return;
                const Elsewhere elsewhere(gate->processor);
                const int number = elsewhere.is_true() ? gate->enter() : 0;
                if (number == 0) return;
                while ((count = gate->count.load(std::memory_order_acquire)) == 0) std::this_thread::yield();
                id = number;
                body(context);
                gate->left.fetch_add(1, std::memory_order_release);
            });
        const auto until = std::chrono::steady_clock::now() + patience;
        while (gate->arrived() < static_cast<int>(threads) && std::chrono::steady_clock::now() < until) std::this_thread::yield();
        id = 0, count = gate->close();
        const int members = count;
        gate->count.store(members, std::memory_order_release);
        body(context);
        while (gate->left.load(std::memory_order_acquire) < members - 1) std::this_thread::yield();
    }

    static thread_local tensorflow::thread::ThreadPool* pool;
    static thread_local std::chrono::microseconds patience;
    static thread_local int id, count;

  private:
    // Which processor runs this, −1 if that is not known.
    static int processor() {
#if defined(__linux__)
        return sched_getcpu();
#else
        return -1;
#endif
    }

    // While it lives this thread is not on the processor that is named, if that could be brought about.
    class Elsewhere {
      public:
        explicit Elsewhere(int number) : there_(processor() >= 0 && processor() == number) {
#if defined(__linux__)
            if (!there_ || sched_getaffinity(0, sizeof before_, &before_) != 0) return;
            cpu_set_t others = before_;
            CPU_CLR(number, &others);
            moved_ = CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0;
#endif
        }
        ~Elsewhere() {
#if defined(__linux__)
            if (moved_) sched_setaffinity(0, sizeof before_, &before_);
#endif
        }
        bool is_true() const { return !there_ || moved_; }

      private:
        const bool there_;
        bool moved_ = false;
#if defined(__linux__)
        cpu_set_t before_;
#endif
    };

    struct Gate {
        static constexpr int closed = 1 << 20;
        std::atomic<int> state{1};  // how many have come, the caller first
        std::atomic<int> count{0}, left{0};
        const int processor = Team::processor();  // the caller's

        bool open() const { return state.load() < closed; }
        int enter() {
            int now = state.load();
            while (now < closed)
                if (state.compare_exchange_weak(now, now + 1)) return now;
            return 0;
        }
        int arrived() const { return state.load() % closed; }
        int close() { return state.fetch_add(closed); }
    };
};

thread_local tensorflow::thread::ThreadPool* Team::pool = nullptr;
thread_local std::chrono::microseconds Team::patience{0};
thread_local int Team::id = 0;
thread_local int Team::count = 1;

const rnn_host host = {Team::parallel, [] { return Team::id; }, [] { return Team::count; }};

// What all three operations are given: x (time, batch, input) or, batch major, (batch, time, input), as are histories then; the
// state, each (batch, hidden); the weights as Keras packs them; and how many steps each sequence has, (batch,), or nothing. All else
// is checked against them.
class Operation : public tensorflow::OpKernel {
  public:
    explicit Operation(OpKernelConstruction* context) : OpKernel(context) {
        OP_REQUIRES_OK(context, context->GetAttr("kernel", &kernel_));
        OP_REQUIRES_OK(context, context->GetAttr("places", &places_));
        OP_REQUIRES_OK(context, context->GetAttr("batch_major", &batch_major_));
        OP_REQUIRES(context, kernels.forward != nullptr, absl::FailedPreconditionError("the library of kernels is not attached"));
        OP_REQUIRES(context, kernel_ >= RNN_SIMPLE_TANH && kernel_ <= RNN_GRU_V3, invalid("kernel: there is no ", kernel_));
        const int gates = kernel_ <= RNN_SIMPLE_RELU ? 1 : kernel_ == RNN_LSTM ? 4 : 3;
        bool right = static_cast<int>(places_.size()) == gates;
        for (int place : places_) right = right && place >= 0 && place < gates;
        OP_REQUIRES(context, right, invalid("places should be one of each of the ", gates, " gates"));
    }

  protected:
    // A call, and what it points to.
    struct Given {
        rnn_call call = {};
        std::vector<int64_t> sizes, order;
        OpInputList state, weights, lengths;

        TensorShape final() const { return {call.batch, call.hidden}; }
        // Sets to zero what stands behind the end of each sequence.
        void clear_padding(const rnn_rows& rows, int64_t numbers) const {
            if (lengths.size() == 0) return;
            const auto length = lengths[0].vec<int64_t>();
            char* bytes = static_cast<char*>(rows.data);
            for (int64_t b = 0; b < call.batch; ++b)
                for (int64_t t = length(b); t < call.steps; ++t)
                    std::memset(bytes + (t * rows.step + b * rows.row) * call.bytes, 0, numbers * call.bytes);
        }
    };

    absl::Status take(OpKernelContext* context, Given* given) const {
        const Tensor& x = context->input(0);
        TF_RETURN_IF_ERROR(context->input_list("state", &given->state));
        TF_RETURN_IF_ERROR(context->input_list("weights", &given->weights));
        TF_RETURN_IF_ERROR(context->input_list("lengths", &given->lengths));
        const OpInputList &state = given->state, &weights = given->weights;
        if (x.dims() != 3) return invalid("x should have three axes, got ", x.shape().DebugString());
        rnn_call& call = given->call;
        const int64_t rows = places_.size();
        call.cell = kernel_, call.bytes = x.dtype() == tensorflow::DT_DOUBLE ? 8 : 4;
        call.steps = x.dim_size(batch_major_), call.batch = x.dim_size(!batch_major_), call.input = x.dim_size(2);
        if (state.size() != (kernel_ == RNN_LSTM ? 2 : 1) || state[0].dims() != 2)
            return invalid("state should be a (batch, hidden) for each of the cell's states");
        call.hidden = state[0].dim_size(1);
        for (const Tensor& each : state) TF_RETURN_IF_ERROR(expect("state", each, given->final()));
        if (weights.size() != 2 && weights.size() != 3) return invalid("weights should be 2 or 3, got ", weights.size());
        const int64_t columns = rows * call.hidden;
        TF_RETURN_IF_ERROR(expect("kernel", weights[0], {call.input, columns}));
        TF_RETURN_IF_ERROR(expect("recurrent_kernel", weights[1], {call.hidden, columns}));
        if (weights.size() == 3)
            TF_RETURN_IF_ERROR(expect("bias", weights[2], kernel_ == RNN_GRU ? TensorShape({2, columns}) : TensorShape({columns})));
        std::copy(places_.begin(), places_.end(), call.places);
        call.x = sequence(x);
        call.W = matrix(weights[0]), call.R = matrix(weights[1]);
        for (int i = 0; i < state.size(); ++i) call.state[i] = sequence(state[i]);
        biases(weights.size() == 3 ? &weights[2] : nullptr, call, call.bias);
        if (given->lengths.size()) TF_RETURN_IF_ERROR(sort(given->lengths[0], given));
        lend_threads(context, call);
        return absl::OkStatus();
    }

    static absl::Status expect(const char* name, const Tensor& tensor, const TensorShape& shape) {
        if (tensor.shape() == shape) return absl::OkStatus();
        return invalid(name, " should be ", shape.DebugString(), ", got ", tensor.shape().DebugString());
    }
    static absl::Status expect(const char* name, const OpInputList& tensors, const TensorShape& shape) {
        for (const Tensor& each : tensors) TF_RETURN_IF_ERROR(expect(name, each, shape));
        return absl::OkStatus();
    }

    rnn_rows sequence(const Tensor& tensor) const {
        const int64_t row = tensor.dim_size(tensor.dims() - 1);
        if (tensor.dims() == 2) return {tensor.data(), 0, row};
        const int64_t slice = tensor.dim_size(1) * row;
        return {tensor.data(), batch_major_ ? row : slice, batch_major_ ? slice : row};
    }
    TensorShape history(const rnn_call& call) const {
        return batch_major_ ? TensorShape({call.batch, call.steps, call.hidden}) : TensorShape({call.steps, call.batch, call.hidden});
    }
    static rnn_matrix matrix(const Tensor& tensor) { return {tensor.data(), 1, tensor.dim_size(1)}; }

    template <class Pointer> static void biases(const Tensor* tensor, const rnn_call& call, Pointer (&to)[2]) {
        if (tensor == nullptr) return;
        to[0] = tensor->data();
        if (tensor->dims() == 2) to[1] = static_cast<char*>(tensor->data()) + tensor->dim_size(1) * call.bytes;
    }

    // Gates, or their gradients, as bytes: they are for the kernels alone.
    int64_t gates(const rnn_call& call) const {
        const int64_t units = kernels.units(kernel_, call.bytes), rows = call.steps * call.batch;
        return (call.hidden + units - 1) / units * (rows | 1) * kernels.gates(kernel_) * units * call.bytes;
    }

    // What is kept for the backward pass as bytes: the gates, and behind them those states of every step of which there is no history.
    TensorShape kept(const rnn_call& call, int histories, int states) const {
        return {(kernels.keeps(kernel_) ? gates(call) : 0) + (states - histories) * call.steps * call.batch * call.hidden * call.bytes};
    }
    void attach(const Tensor& kept, int histories, int states, rnn_call& call) const {
        if (kernels.keeps(kernel_)) call.gates = kept.data();
        if (histories < states)
            call.history[1] = {static_cast<char*>(kept.data()) + gates(call), call.batch * call.hidden, call.hidden};
    }

    static void run(OpKernelContext* context, int (*function)(const rnn_call*), const rnn_call& call) {
        OP_REQUIRES(context, function(&call) == 0, absl::ResourceExhaustedError("the kernels should have memory to work in, got none"));
    }

    int32_t kernel_;
    bool batch_major_;

  private:
    // The longest sequence first, and how many have each step.
    static absl::Status sort(const Tensor& lengths, Given* given) {
        const rnn_call& call = given->call;
        TF_RETURN_IF_ERROR(expect("lengths", lengths, {call.batch}));
        const auto length = lengths.vec<int64_t>();
        given->sizes.assign(call.steps, 0);
        given->order.resize(call.batch);
        std::iota(given->order.begin(), given->order.end(), 0);
        for (int64_t b = 0; b < call.batch; ++b) {
            if (length(b) < 0 || length(b) > call.steps)
                return invalid("lengths should be from 0 to ", call.steps, ", got ", length(b));
            for (int64_t t = 0; t < length(b); ++t) ++given->sizes[t];
        }
        std::stable_sort(given->order.begin(), given->order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
        given->call.sizes = given->sizes.data(), given->call.order = given->order.data();
        return absl::OkStatus();
    }

    // Others' threads are waited for a twentieth of the time that the call may take, at 100 multiply-adds a nanosecond.
    static void lend_threads(OpKernelContext* context, rnn_call& call) {
        const auto* workers = context->device()->tensorflow_cpu_worker_threads();
        call.threads = workers->num_threads, call.host = &host;
        Team::pool = workers->workers;
        const double products = 1.0 * call.steps * call.batch * call.hidden * (call.input + call.hidden) * kernels.gates(call.cell);
        Team::patience = std::chrono::microseconds(static_cast<int64_t>(std::clamp(products / 100 / 1000 / 20, 50.0, 5000.0)));
    }

    std::vector<int32_t> places_;
};

class Forward : public Operation {
  public:
    explicit Forward(OpKernelConstruction* context) : Operation(context) {
        OP_REQUIRES_OK(context, context->GetAttr("keep", &keep_));
        OP_REQUIRES_OK(context, context->GetAttr("histories", &histories_));
    }

    void Compute(OpKernelContext* context) override {
        Given given;
        OP_REQUIRES_OK(context, take(context, &given));
        rnn_call& call = given.call;
        const int states = given.state.size();
        OP_REQUIRES(context, histories_ <= states, invalid("histories should be at most ", states, ", got ", histories_));
        OpOutputList history, final;
        OP_REQUIRES_OK(context, context->output_list("history", &history));
        OP_REQUIRES_OK(context, context->output_list("final", &final));
        for (int i = 0; i < states; ++i) {
            Tensor *each = nullptr, *last = nullptr;
            if (i < histories_) {
                OP_REQUIRES_OK(context, history.allocate(i, Operation::history(call), &each));
                call.history[i] = sequence(*each);
                given.clear_padding(call.history[i], call.hidden);
            }
            OP_REQUIRES_OK(context, final.allocate(i, given.final(), &last));
            if (given.lengths.size() || call.steps == 0)  // of a sequence without a step the final state is the initial one
                std::memcpy(last->data(), given.state[i].data(), last->TotalBytes());
            call.final[i] = sequence(*last);
        }
        Tensor* kept = nullptr;
        const TensorShape shape = keep_ ? this->kept(call, histories_, states) : TensorShape({0});
        OP_REQUIRES_OK(context, context->allocate_output(histories_ + states, shape, &kept));
        if (keep_) attach(*kept, histories_, states, call);
        run(context, kernels.forward, call);
    }

  private:
    bool keep_;
    int32_t histories_;
};

class Backward : public Operation {
  public:
    using Operation::Operation;

    void Compute(OpKernelContext* context) override {
        Given given;
        OP_REQUIRES_OK(context, take(context, &given));
        rnn_call& call = given.call;
        const int states = given.state.size();
        OpInputList history, d_history, d_final;
        OP_REQUIRES_OK(context, context->input_list("history", &history));
        OP_REQUIRES_OK(context, context->input_list("d_history", &d_history));
        OP_REQUIRES_OK(context, context->input_list("d_final", &d_final));
        const int histories = history.size();
        OP_REQUIRES(context, histories <= states, invalid("histories should be at most ", states, ", got ", histories));
        OP_REQUIRES_OK(context, expect("history", history, Operation::history(call)));
        OP_REQUIRES_OK(context, expect("d_history", d_history, Operation::history(call)));
        OP_REQUIRES_OK(context, expect("d_final", d_final, given.final()));
        const Tensor* kept = nullptr;
        OP_REQUIRES_OK(context, context->input("kept", &kept));
        OP_REQUIRES_OK(context, expect("kept", *kept, this->kept(call, histories, states)));
        attach(*kept, histories, states, call);

        // In the place of what was kept, if that is not needed again.
        Tensor* d_gates = nullptr;
        int place = -1;
        const bool in_place = kernels.keeps(kernel_) && kernel_ != RNN_GRU_V3;
        OP_REQUIRES_OK(context, context->forward_input_or_allocate_output(
                                    in_place ? std::vector<int>{context->num_inputs() - 1} : std::vector<int>{}, 0,
                                    in_place ? kept->shape() : TensorShape({gates(call)}), &d_gates, &place));
        call.d_gates = d_gates->data();

        OpOutputList d_state, d_weights;
        OP_REQUIRES_OK(context, context->output_list("d_state", &d_state));
        OP_REQUIRES_OK(context, context->output_list("d_weights", &d_weights));
        for (int i = 0; i < states; ++i) {
            Tensor* d = nullptr;
            OP_REQUIRES_OK(context, d_state.allocate(i, given.final(), &d));
            if (i < histories) call.history[i] = sequence(history[i]), call.d_history[i] = sequence(d_history[i]);
            call.d_final[i] = sequence(d_final[i]);
            call.d_state[i] = sequence(*d);
        }
        std::vector<Tensor*> d(given.weights.size());
        for (int i = 0; i < given.weights.size(); ++i) OP_REQUIRES_OK(context, d_weights.allocate(i, given.weights[i].shape(), &d[i]));
        call.d_W = matrix(*d[0]), call.d_R = matrix(*d[1]);
        biases(d.size() == 3 ? d[2] : nullptr, call, call.d_bias);
        run(context, kernels.backward, call);
    }
};

class InputGradient : public Operation {
  public:
    using Operation::Operation;

    void Compute(OpKernelContext* context) override {
        Given given;
        OP_REQUIRES_OK(context, take(context, &given));
        const Tensor* d_gates = nullptr;
        OP_REQUIRES_OK(context, context->input("d_gates", &d_gates));
        OP_REQUIRES(context, d_gates->NumElements() >= gates(given.call),
                    invalid("d_gates should have ", gates(given.call), " bytes, got ", d_gates->NumElements()));
        Tensor* d_x = nullptr;
        OP_REQUIRES_OK(context, context->allocate_output(0, context->input(0).shape(), &d_x));
        given.call.d_gates = d_gates->data();
        given.call.d_x = sequence(*d_x);
        given.clear_padding(given.call.d_x, given.call.input);
        run(context, kernels.input_gradient, given.call);
    }
};

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status shapes_forward(InferenceContext* c) {
    int states, histories;
    bool batch_major;
    TF_RETURN_IF_ERROR(c->GetAttr("batch_major", &batch_major));
    TF_RETURN_IF_ERROR(c->GetAttr("states", &states));
    TF_RETURN_IF_ERROR(c->GetAttr("histories", &histories));
    ShapeHandle x, h;
    TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &x));
    TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &h));
    DimensionHandle batch;
    TF_RETURN_IF_ERROR(c->Merge(c->Dim(x, !batch_major), c->Dim(h, 0), &batch));
    const DimensionHandle first = batch_major ? batch : c->Dim(x, 0), second = batch_major ? c->Dim(x, 1) : batch;
    for (int i = 0; i < histories; ++i) c->set_output(i, c->MakeShape({first, second, c->Dim(h, 1)}));
    for (int i = 0; i < states; ++i) c->set_output(histories + i, c->MakeShape({batch, c->Dim(h, 1)}));
    c->set_output(histories + states, c->UnknownShapeOfRank(1));
    return absl::OkStatus();
}

absl::Status shapes_backward(InferenceContext* c) {
    int states, packed;
    TF_RETURN_IF_ERROR(c->GetAttr("states", &states));
    TF_RETURN_IF_ERROR(c->GetAttr("packed", &packed));
    c->set_output(0, c->UnknownShapeOfRank(1));
    for (int i = 1; i <= states + packed; ++i) c->set_output(i, c->input(i));
    return absl::OkStatus();
}

absl::Status shapes_input_gradient(InferenceContext* c) {
    c->set_output(0, c->input(0));
    return absl::OkStatus();
}

#define GIVEN(op)                          \
    op.Input("x: T")                       \
        .Input("state: states * T")        \
        .Input("weights: packed * T")      \
        .Input("lengths: counted * int64") \
        .Attr("T: {float, double}")        \
        .Attr("states: int >= 1")          \
        .Attr("packed: int >= 2")          \
        .Attr("counted: int >= 0")         \
        .Attr("kernel: int")               \
        .Attr("places: list(int)")         \
        .Attr("batch_major: bool")

GIVEN(REGISTER_OP("RnnParity>Forward"))
    .Attr("histories: int >= 1")
    .Attr("keep: bool")
    .Output("history: histories * T")
    .Output("final: states * T")
    .Output("kept: uint8")
    .SetShapeFn(shapes_forward);

GIVEN(REGISTER_OP("RnnParity>Backward"))
    .Input("history: histories * T")
    .Input("d_history: histories * T")
    .Input("d_final: states * T")
    .Input("kept: uint8")
    .Attr("histories: int >= 1")
    .Output("d_gates: uint8")
    .Output("d_state: states * T")
    .Output("d_weights: packed * T")
    .SetShapeFn(shapes_backward);

// What it does not compute from it is given for its own derivative.
GIVEN(REGISTER_OP("RnnParity>InputGradient"))
    .Input("d_history: histories * T")
    .Input("d_final: states * T")
    .Input("d_gates: uint8")
    .Attr("histories: int >= 1")
    .Output("d_x: T")
    .SetShapeFn(shapes_input_gradient);

#define KERNEL(name, type) REGISTER_KERNEL_BUILDER(Name("RnnParity>" #name).Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), name)
KERNEL(Forward, float);
KERNEL(Forward, double);
KERNEL(Backward, float);
KERNEL(Backward, double);
KERNEL(InputGradient, float);
KERNEL(InputGradient, double);

}  // namespace

extern "C" void rnn_attach(decltype(Kernels::forward) forward, decltype(Kernels::backward) backward,
                           decltype(Kernels::input_gradient) input_gradient, decltype(Kernels::units) units,
                           decltype(Kernels::gates) gates, decltype(Kernels::keeps) keeps) {
    kernels = {forward, backward, input_gradient, units, gates, keeps};
}
