// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBlockhostSubscriptions} from "./interfaces/IBlockhostSubscriptions.sol";
import {PairPrice} from "./lib/PairPrice.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IERC20, SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title Where buyers pay one host for machines. See IBlockhostSubscriptions.
/// @dev A subscription is one word of storage. What a plan costs fits 96 bits and what a token's decimals scale to 120, so no
/// product of a price below overflows before Math.mulDiv takes it to 512 bits.
contract BlockhostSubscriptions is IBlockhostSubscriptions, Ownable2Step, ReentrancyGuardTransient {
    using PairPrice for PairPrice.Source;
    using SafeERC20 for IERC20;

    /// @dev The order is that of a record's bits: see IBlockhostSubscriptions.getSubscriptionRecords.
    struct Subscription {
        address subscriber;
        uint40 expiresAt;
        uint16 planId;
        uint32 boughtIn;
        bool cancelled;
    }

    struct Plan {
        uint96 pricePerDayUsdCents;
        bool active;
        bool renewable;
        string name;
    }

    /// @dev `source` is empty for the primary stablecoin.
    struct PaymentMethod {
        address token;
        uint8 tokenDecimals;
        uint8 stablecoinDecimals;
        bool active;
        address stablecoin;
        PairPrice.Source source;
    }

    uint256 public constant STABLECOIN_PAYMENT_ID = 1;
    /// @notice Most days of one payment, and most days a subscription may reach into the future.
    uint256 public constant MAX_DAYS = 36_500;
    /// @notice Most bytes a buyer may write to the host.
    uint256 public constant MAX_USER_ENCRYPTED = 4096;
    /// @notice Shortest time, in seconds, that a pair's price is averaged over.
    uint256 public constant PRICE_WINDOW = PairPrice.WINDOW;

    uint256 private constant MAX_SLIPPAGE_BPS = 1000;
    uint8 private constant MAX_DECIMALS = 36;
    /// @dev 100 cents a dollar, 10,000 basis points.
    uint256 private constant PRICE_UNIT = 100 * 10_000;

    // Shares a word with Ownable2Step's pending owner.
    bool public purchasesPaused;

    uint256 public nextPlanId = 1;
    uint256 public nextSubscriptionId = 1;
    uint256 public nextPaymentMethodId = 2;
    /// @notice Surcharge on payments priced by a pair, hundredths of a percent.
    uint256 public slippageBps = 100;
    /// @notice Stablecoin that a pair must hold to be a price, millionths of a dollar.
    uint256 public minLiquidityUsd = 10_000e6;

    mapping(uint256 planId => Plan) private _plans;
    mapping(uint256 subscriptionId => Subscription) private _subscriptions;
    mapping(uint256 paymentMethodId => PaymentMethod) private _paymentMethods;
    // Four ids share a word.
    mapping(address subscriber => uint64[]) private _bought;
    uint256[] private _paymentMethodIds;
    address[] private _paymentTokens;
    mapping(address token => bool) private _isPaymentToken;
    mapping(address token => mapping(address pair => uint256 paymentMethodId)) private _methodOf;

    constructor() Ownable(msg.sender) {}

    /// @inheritdoc IBlockhostSubscriptions
    function setPrimaryStablecoin(address tokenAddress) external onlyOwner {
        uint8 decimals = _decimals(tokenAddress);
        PaymentMethod storage method = _paymentMethods[STABLECOIN_PAYMENT_ID];
        method.token = tokenAddress;
        method.tokenDecimals = decimals;
        method.stablecoinDecimals = decimals;
        method.active = true;
        method.stablecoin = tokenAddress;
        _addPaymentToken(tokenAddress);
        emit PrimaryStablecoinSet(tokenAddress, decimals);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function createPlan(string calldata name, uint256 pricePerDayUsdCents) external onlyOwner returns (uint256 planId) {
        planId = nextPlanId++;
        if (planId > type(uint16).max) revert TooManyPlans(type(uint16).max);
        Plan storage plan = _plans[planId];
        plan.name = name;
        plan.pricePerDayUsdCents = _checkPrice(pricePerDayUsdCents);
        plan.active = true;
        plan.renewable = true;
        emit PlanCreated(planId, name, pricePerDayUsdCents);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function updatePlan(uint256 planId, string calldata name, uint256 pricePerDayUsdCents, bool active)
        external
        onlyOwner
    {
        Plan storage plan = _plan(planId);
        plan.name = name;
        plan.pricePerDayUsdCents = _checkPrice(pricePerDayUsdCents);
        plan.active = active;
        emit PlanUpdated(planId, name, pricePerDayUsdCents, active);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function setPlanRenewable(uint256 planId, bool renewable) external onlyOwner {
        _plan(planId).renewable = renewable;
        emit PlanRenewableUpdated(planId, renewable);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function setPurchasesPaused(bool paused) external onlyOwner {
        purchasesPaused = paused;
        emit PurchasesPausedUpdated(paused);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function cancelSubscription(uint256 subscriptionId) external onlyOwner {
        Subscription storage subscription = _liveSubscription(subscriptionId);
        subscription.cancelled = true;
        subscription.expiresAt = uint40(block.timestamp);
        emit SubscriptionCancelled(subscriptionId, subscription.planId, subscription.subscriber);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function addPaymentMethod(address tokenAddress, address pairAddress, address stablecoinAddress)
        external
        onlyOwner
        returns (uint256 paymentMethodId)
    {
        uint8 tokenDecimals = _decimals(tokenAddress);
        uint8 stablecoinDecimals = _decimals(stablecoinAddress);
        if (pairAddress.code.length == 0) revert InvalidAddress();
        if (tokenAddress == stablecoinAddress) revert TokenIsStablecoin(tokenAddress);
        uint256 existing = _methodOf[tokenAddress][pairAddress];
        if (existing != 0) revert PaymentMethodExists(existing);

        paymentMethodId = nextPaymentMethodId++;
        PaymentMethod storage method = _paymentMethods[paymentMethodId];
        if (!method.source.open(pairAddress, tokenAddress, stablecoinAddress)) revert TokenNotInPair();
        method.token = tokenAddress;
        method.tokenDecimals = tokenDecimals;
        method.stablecoinDecimals = stablecoinDecimals;
        method.active = true;
        method.stablecoin = stablecoinAddress;
        _methodOf[tokenAddress][pairAddress] = paymentMethodId;
        _paymentMethodIds.push(paymentMethodId);
        _addPaymentToken(tokenAddress);
        emit PaymentMethodAdded(paymentMethodId, tokenAddress, pairAddress, stablecoinAddress);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function updatePaymentMethod(uint256 paymentMethodId, bool active) external onlyOwner {
        _paymentMethod(paymentMethodId).active = active;
        emit PaymentMethodUpdated(paymentMethodId, active);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function withdrawFunds(address token, address to) external onlyOwner nonReentrant {
        if (to == address(0)) revert InvalidAddress();
        uint256 amount = token == address(0) ? address(this).balance : IERC20(token).balanceOf(address(this));
        if (amount == 0) revert NoBalanceToWithdraw();
        if (token == address(0)) Address.sendValue(payable(to), amount);
        else IERC20(token).safeTransfer(to, amount);
        emit FundsWithdrawn(token, to, amount);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function setSlippageBps(uint256 newSlippageBps) external onlyOwner {
        if (newSlippageBps > MAX_SLIPPAGE_BPS) revert SlippageTooHigh();
        emit SlippageUpdated(slippageBps, newSlippageBps);
        slippageBps = newSlippageBps;
    }

    /// @inheritdoc IBlockhostSubscriptions
    function setMinLiquidity(uint256 newMinLiquidityUsd) external onlyOwner {
        emit MinLiquidityUpdated(minLiquidityUsd, newMinLiquidityUsd);
        minLiquidityUsd = newMinLiquidityUsd;
    }

    /// @notice Always reverts with OwnerRequired: without an owner nobody could withdraw.
    function renounceOwnership() public view override onlyOwner {
        revert OwnerRequired();
    }

    /// @inheritdoc IBlockhostSubscriptions
    function buySubscription(uint256 planId, uint256 days_, uint256 paymentMethodId, bytes calldata userEncrypted)
        external
        returns (uint256 subscriptionId)
    {
        return _buy(planId, days_, paymentMethodId, type(uint256).max, userEncrypted);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function buySubscriptionWithMax(
        uint256 planId,
        uint256 days_,
        uint256 paymentMethodId,
        uint256 maxAmount,
        bytes calldata userEncrypted
    ) external returns (uint256 subscriptionId) {
        return _buy(planId, days_, paymentMethodId, maxAmount, userEncrypted);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function extendSubscription(uint256 subscriptionId, uint256 days_, uint256 paymentMethodId) external {
        _extend(subscriptionId, days_, paymentMethodId, type(uint256).max);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function extendSubscriptionWithMax(
        uint256 subscriptionId,
        uint256 days_,
        uint256 paymentMethodId,
        uint256 maxAmount
    ) external {
        _extend(subscriptionId, days_, paymentMethodId, maxAmount);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function updatePrice(uint256 paymentMethodId) external {
        _pairMethod(paymentMethodId).source.update();
    }

    /// @inheritdoc IBlockhostSubscriptions
    function daysRemaining(uint256 subscriptionId) external view returns (uint256) {
        Subscription storage subscription = _subscription(subscriptionId);
        return _isActive(subscription) ? (subscription.expiresAt - block.timestamp) / 1 days : 0;
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getSubscription(uint256 subscriptionId)
        external
        view
        returns (uint256 planId, address subscriber, uint256 expiresAt, bool isActive, bool cancelled)
    {
        Subscription storage s = _subscription(subscriptionId);
        return (s.planId, s.subscriber, s.expiresAt, _isActive(s), s.cancelled);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getPlan(uint256 planId)
        external
        view
        returns (string memory name, uint256 pricePerDayUsdCents, bool active)
    {
        Plan storage plan = _plan(planId);
        return (plan.name, plan.pricePerDayUsdCents, plan.active);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function isPlanRenewable(uint256 planId) external view returns (bool) {
        return _plan(planId).renewable;
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getPrimaryStablecoin() external view returns (address) {
        return _paymentMethods[STABLECOIN_PAYMENT_ID].token;
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getPaymentMethodIds() external view returns (uint256[] memory ids) {
        uint256 first = _paymentMethods[STABLECOIN_PAYMENT_ID].token == address(0) ? 0 : 1;
        ids = new uint256[](first + _paymentMethodIds.length);
        if (first == 1) ids[0] = STABLECOIN_PAYMENT_ID;
        for (uint256 i = first; i < ids.length; i++) {
            ids[i] = _paymentMethodIds[i - first];
        }
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getPaymentMethod(uint256 paymentMethodId)
        external
        view
        returns (
            address tokenAddress,
            address pairAddress,
            address stablecoinAddress,
            uint8 tokenDecimals,
            uint8 stablecoinDecimals,
            bool active
        )
    {
        PaymentMethod storage m = _paymentMethod(paymentMethodId);
        return (m.token, m.source.pair, m.stablecoin, m.tokenDecimals, m.stablecoinDecimals, m.active);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getPaymentTokens() external view returns (address[] memory) {
        return _paymentTokens;
    }

    /// @inheritdoc IBlockhostSubscriptions
    function calculatePayment(uint256 planId, uint256 days_, uint256 paymentMethodId) external view returns (uint256) {
        return _payment(_plan(planId).pricePerDayUsdCents * days_, paymentMethodId, _paymentMethod(paymentMethodId));
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getTokenPriceUsdCents(uint256 paymentMethodId) external view returns (uint256) {
        PaymentMethod storage method = _paymentMethod(paymentMethodId);
        if (method.source.pair == address(0)) return 100;
        PairPrice.Reserves memory reserves = method.source.read();
        if (reserves.token == 0) revert InsufficientLiquidity();
        return Math.mulDiv(
            uint256(reserves.stable) * 100,
            10 ** method.tokenDecimals,
            uint256(reserves.token) * 10 ** method.stablecoinDecimals
        );
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getPriceWindow(uint256 paymentMethodId) external view returns (uint256 since, uint256 nextUpdateAt) {
        PairPrice.Source storage source = _pairMethod(paymentMethodId).source;
        (since,) = source.observation();
        nextUpdateAt = source.nextUpdateAt();
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getTotalSubscriptionCount() external view returns (uint256) {
        return nextSubscriptionId - 1;
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getTotalPlanCount() external view returns (uint256) {
        return nextPlanId - 1;
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getSubscriptionsExpiringSoon(uint256 withinSeconds, uint256 offset, uint256 limit)
        external
        view
        returns (uint256[] memory)
    {
        return _findExpiring(block.timestamp + 1, Math.saturatingAdd(block.timestamp, withinSeconds), offset, limit);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getExpiredSubscriptions(uint256 offset, uint256 limit) external view returns (uint256[] memory) {
        return _findExpiring(0, block.timestamp, offset, limit);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getSubscriptionsBySubscriber(address subscriber) external view returns (uint256[] memory ids) {
        uint64[] storage bought = _bought[subscriber];
        ids = new uint256[](bought.length);
        for (uint256 i = 0; i < ids.length; i++) {
            ids[i] = bought[i];
        }
    }

    /// @inheritdoc IBlockhostSubscriptions
    function isSubscriptionActive(uint256 subscriptionId) external view returns (bool) {
        // An unknown one expired in 1970.
        return _isActive(_subscriptions[subscriptionId]);
    }

    /// @inheritdoc IBlockhostSubscriptions
    function getSubscriptionRecords(uint256[] calldata subscriptionIds)
        external
        view
        returns (uint256[] memory records)
    {
        records = new uint256[](subscriptionIds.length);
        for (uint256 i = 0; i < records.length; i++) {
            records[i] = _record(_subscriptions[subscriptionIds[i]]);
        }
    }

    function _buy(
        uint256 planId,
        uint256 days_,
        uint256 paymentMethodId,
        uint256 maxAmount,
        bytes calldata userEncrypted
    ) private nonReentrant returns (uint256 subscriptionId) {
        if (purchasesPaused) revert PurchasesPaused();
        Plan storage plan = _plan(planId);
        if (!plan.active) revert PlanNotActive(planId);
        _checkDays(days_);
        if (userEncrypted.length > MAX_USER_ENCRYPTED) {
            revert UserEncryptedTooLong(userEncrypted.length, MAX_USER_ENCRYPTED);
        }
        (uint256 amount, address token) = _collect(plan.pricePerDayUsdCents * days_, paymentMethodId, maxAmount);

        subscriptionId = nextSubscriptionId++;
        uint256 expiresAt = block.timestamp + days_ * 1 days;
        // createPlan bounds planId; the block is documented to be cut to 32 bits.
        _subscriptions[subscriptionId] = Subscription({
            subscriber: msg.sender,
            expiresAt: uint40(expiresAt),
            planId: uint16(planId),
            boughtIn: uint32(block.number),
            cancelled: false
        });
        _bought[msg.sender].push(uint64(subscriptionId));
        emit SubscriptionCreated(subscriptionId, planId, msg.sender, expiresAt, amount, token, userEncrypted);
    }

    function _extend(uint256 subscriptionId, uint256 days_, uint256 paymentMethodId, uint256 maxAmount)
        private
        nonReentrant
    {
        Subscription storage subscription = _liveSubscription(subscriptionId);
        uint256 planId = subscription.planId;
        Plan storage plan = _plans[planId];
        if (!plan.renewable) revert PlanNotRenewable(planId);
        _checkDays(days_);
        uint256 expiresAt = Math.max(subscription.expiresAt, block.timestamp) + days_ * 1 days;
        uint256 latest = block.timestamp + MAX_DAYS * 1 days;
        if (expiresAt > latest) revert ExpiryTooFar(expiresAt, latest);
        (uint256 amount, address token) = _collect(plan.pricePerDayUsdCents * days_, paymentMethodId, maxAmount);

        subscription.expiresAt = uint40(expiresAt);
        emit SubscriptionExtended(subscriptionId, planId, msg.sender, expiresAt, amount, token);
    }

    /// @dev Takes the payment for `cents` from the caller.
    function _collect(uint256 cents, uint256 paymentMethodId, uint256 maxAmount)
        private
        returns (uint256 amount, address token)
    {
        PaymentMethod storage method = _paymentMethod(paymentMethodId);
        if (!method.active) revert PaymentMethodNotActive(paymentMethodId);
        amount = _payment(cents, paymentMethodId, method);
        if (amount > maxAmount) revert PaymentAboveMax(amount, maxAmount);
        if (method.source.pair != address(0)) method.source.update();

        token = method.token;
        uint256 expected = IERC20(token).balanceOf(address(this)) + amount;
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        uint256 balance = IERC20(token).balanceOf(address(this));
        if (balance < expected) revert PaymentShort(token, expected, balance);
    }

    /// @dev Rounded up, so that no price is so low that days are free.
    function _payment(uint256 cents, uint256 paymentMethodId, PaymentMethod storage method)
        private
        view
        returns (uint256)
    {
        uint256 scaled = cents * 10 ** method.stablecoinDecimals;
        if (method.source.pair == address(0)) return Math.ceilDiv(scaled, 100);

        PairPrice.Reserves memory reserves = method.source.read();
        if (reserves.token == 0 || _normalize(reserves.stable, method.stablecoinDecimals) < minLiquidityUsd) {
            revert InsufficientLiquidity();
        }
        (uint256 since,) = method.source.observation();
        if (since == 0) revert PriceNotReady(paymentMethodId, method.source.nextUpdateAt());
        scaled *= 10_000 + slippageBps;
        // Who trades with the pair in this very transaction moves the present price, not the average; the present one
        // counts as well so that an average from long ago does not sell a token that has lost its value since.
        uint256 present = Math.mulDiv(scaled, reserves.token, uint256(reserves.stable) * PRICE_UNIT, Math.Rounding.Ceil);
        return Math.max(present, method.source.average(reserves, scaled, PRICE_UNIT));
    }

    /// @dev Amount of a stablecoin in millionths of a dollar.
    function _normalize(uint256 amount, uint8 decimals) private pure returns (uint256) {
        return decimals > 6 ? amount / 10 ** (decimals - 6) : amount * 10 ** (6 - decimals);
    }

    /// @dev The subscriptions offset+1 .. offset+limit that expire in `from`..`to` and are not cancelled.
    function _findExpiring(uint256 from, uint256 to, uint256 offset, uint256 limit)
        private
        view
        returns (uint256[] memory ids)
    {
        uint256 last = Math.min(nextSubscriptionId - 1, Math.saturatingAdd(offset, limit));
        if (offset >= last) return ids;
        ids = new uint256[](last - offset);
        uint256 length = 0;
        for (uint256 id = offset + 1; id <= last; id++) {
            Subscription storage s = _subscriptions[id];
            if (!s.cancelled && s.expiresAt >= from && s.expiresAt <= to) ids[length++] = id;
        }
        assembly ("memory-safe") {
            mstore(ids, length)
        }
    }

    /// @dev See getSubscriptionRecords. Plan 0, of unknown ones, is neither active nor renewable.
    function _record(Subscription memory s) private view returns (uint256) {
        Plan storage plan = _plans[s.planId];
        return uint256(uint160(s.subscriber)) | uint256(s.expiresAt) << 160 | uint256(s.planId) << 200
            | uint256(s.boughtIn) << 216 | _bit(s.cancelled) << 248 | _bit(plan.active) << 249 | _bit(plan.renewable)
            << 250;
    }

    function _bit(bool value) private pure returns (uint256) {
        return value ? 1 : 0;
    }

    function _isActive(Subscription storage subscription) private view returns (bool) {
        return !subscription.cancelled && subscription.expiresAt > block.timestamp;
    }

    function _addPaymentToken(address token) private {
        if (_isPaymentToken[token]) return;
        _isPaymentToken[token] = true;
        _paymentTokens.push(token);
    }

    function _plan(uint256 planId) private view returns (Plan storage) {
        if (planId == 0 || planId >= nextPlanId) revert PlanNotFound(planId);
        return _plans[planId];
    }

    function _subscription(uint256 subscriptionId) private view returns (Subscription storage) {
        if (subscriptionId == 0 || subscriptionId >= nextSubscriptionId) revert SubscriptionNotFound(subscriptionId);
        return _subscriptions[subscriptionId];
    }

    /// @dev One that was not cancelled; expired or not.
    function _liveSubscription(uint256 subscriptionId) private view returns (Subscription storage subscription) {
        subscription = _subscription(subscriptionId);
        if (subscription.cancelled) revert SubscriptionAlreadyCancelled(subscriptionId);
    }

    function _paymentMethod(uint256 paymentMethodId) private view returns (PaymentMethod storage method) {
        method = _paymentMethods[paymentMethodId];
        if (method.token == address(0)) revert PaymentMethodNotFound(paymentMethodId);
    }

    /// @dev A method priced by a pair.
    function _pairMethod(uint256 paymentMethodId) private view returns (PaymentMethod storage method) {
        method = _paymentMethods[paymentMethodId];
        if (method.source.pair == address(0)) revert PaymentMethodNotFound(paymentMethodId);
    }

    function _decimals(address token) private view returns (uint8 decimals) {
        if (token.code.length == 0) revert InvalidAddress();
        decimals = IERC20Metadata(token).decimals();
        if (decimals > MAX_DECIMALS) revert TooManyDecimals(token, decimals, MAX_DECIMALS);
    }

    function _checkPrice(uint256 pricePerDayUsdCents) private pure returns (uint96) {
        if (pricePerDayUsdCents == 0) revert PlanPriceMustBePositive();
        if (pricePerDayUsdCents > type(uint96).max) revert PlanPriceTooHigh(pricePerDayUsdCents, type(uint96).max);
        return uint96(pricePerDayUsdCents);
    }

    function _checkDays(uint256 days_) private pure {
        if (days_ == 0) revert DaysMustBePositive();
        if (days_ > MAX_DAYS) revert TooManyDays(days_, MAX_DAYS);
    }
}
