// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title Where buyers pay one host for machines.
/// @notice Ids of plans and subscriptions count from 1, those of payment methods too; 0 means "none". Payment method 1 is
/// the primary stablecoin, methods from 2 on are tokens priced by a Uniswap v2 pair.
/// Prices are US cents, times Unix seconds, durations seconds, token amounts the token's smallest unit.
///
/// Functions, events and errors answer as the generation of February 2026 in the field does. Additions: the functions
/// `...WithMax`, `setPlanRenewable`, `setPurchasesPaused`, `updatePrice` and their views, `getPaymentTokens`,
/// `getSubscriptionRecords`, two-step ownership, and the errors and events below the line "Additions". What answers
/// differently: a price is rounded up; a renewal asks whether the plan is renewable, not whether it is active; a token's price
/// is the higher of the pair's present and its average one; the queries by expiry page over ids, not over matches.
interface IBlockhostSubscriptions {
    /// @param userEncrypted What the buyer wrote to the host; only here, as the contract does not keep it.
    event SubscriptionCreated(
        uint256 indexed subscriptionId,
        uint256 indexed planId,
        address indexed subscriber,
        uint256 expiresAt,
        uint256 paidAmount,
        address paymentToken,
        bytes userEncrypted
    );
    event SubscriptionExtended(
        uint256 indexed subscriptionId,
        uint256 indexed planId,
        address indexed extendedBy,
        uint256 newExpiresAt,
        uint256 paidAmount,
        address paymentToken
    );
    event SubscriptionCancelled(uint256 indexed subscriptionId, uint256 indexed planId, address indexed subscriber);
    event PlanCreated(uint256 indexed planId, string name, uint256 pricePerDayUsdCents);
    event PlanUpdated(uint256 indexed planId, string name, uint256 pricePerDayUsdCents, bool active);
    event PrimaryStablecoinSet(address indexed stablecoinAddress, uint8 decimals);
    event PaymentMethodAdded(
        uint256 indexed paymentMethodId, address tokenAddress, address pairAddress, address stablecoinAddress
    );
    event PaymentMethodUpdated(uint256 indexed paymentMethodId, bool active);
    /// @param token address(0) for ether.
    event FundsWithdrawn(address indexed token, address indexed to, uint256 amount);
    event SlippageUpdated(uint256 oldSlippageBps, uint256 newSlippageBps);
    event MinLiquidityUpdated(uint256 oldMinLiquidity, uint256 newMinLiquidity);

    error PlanNotFound(uint256 planId);
    /// @notice The plan is closed to new buyers.
    error PlanNotActive(uint256 planId);
    error PlanPriceMustBePositive();
    error SubscriptionNotFound(uint256 subscriptionId);
    error SubscriptionAlreadyCancelled(uint256 subscriptionId);
    error PaymentMethodNotFound(uint256 paymentMethodId);
    error PaymentMethodNotActive(uint256 paymentMethodId);
    /// @dev Part of the field's ABI, never thrown: without a stablecoin, method 1 is PaymentMethodNotFound(1).
    error PrimaryStablecoinNotSet();
    /// @notice Zero, or without code where a contract is needed.
    error InvalidAddress();
    error DaysMustBePositive();
    error SlippageTooHigh();
    error NoBalanceToWithdraw();
    error TokenNotInPair();
    /// @notice The pair is empty, or holds less than minLiquidityUsd of the stablecoin.
    error InsufficientLiquidity();

    // ---- Additions

    event PlanRenewableUpdated(uint256 indexed planId, bool renewable);
    event PurchasesPausedUpdated(bool paused);

    error TooManyDays(uint256 days_, uint256 max);
    /// @notice The subscription would end later than MAX_DAYS from now.
    error ExpiryTooFar(uint256 expiresAt, uint256 max);
    error UserEncryptedTooLong(uint256 length, uint256 max);
    /// @notice The plan is closed to renewals.
    error PlanNotRenewable(uint256 planId);
    error PlanPriceTooHigh(uint256 pricePerDayUsdCents, uint256 max);
    error TooManyPlans(uint256 max);
    error PurchasesPaused();
    /// @notice More than the buyer allowed.
    error PaymentAboveMax(uint256 amount, uint256 maxAmount);
    /// @notice The token moved less than it was told to (a fee on transfers): the contract holds `balance` of it, and
    /// should hold `expected`.
    error PaymentShort(address token, uint256 expected, uint256 balance);
    /// @notice The method's price has not been watched for PRICE_WINDOW yet; it can be used from `readyAt` on.
    error PriceNotReady(uint256 paymentMethodId, uint256 readyAt);
    /// @notice The token is accepted through this pair already.
    error PaymentMethodExists(uint256 paymentMethodId);
    /// @notice A token can't be priced in itself.
    error TokenIsStablecoin(address token);
    error TooManyDecimals(address token, uint8 decimals, uint8 max);
    /// @notice Without an owner nobody could withdraw.
    error OwnerRequired();

    // ---- The owner's

    /// @notice Takes `tokenAddress` as payment method 1, active, in place of the one before, whose balance stays
    /// withdrawable.
    function setPrimaryStablecoin(address tokenAddress) external;

    /// @notice Adds a plan, active and renewable.
    /// @param pricePerDayUsdCents 1..2^96-1.
    function createPlan(string calldata name, uint256 pricePerDayUsdCents) external returns (uint256 planId);

    /// @notice Replaces name, price and whether new buyers may choose the plan. Subscriptions of an inactive plan can still
    /// be extended, at its price: see setPlanRenewable.
    function updatePlan(uint256 planId, string calldata name, uint256 pricePerDayUsdCents, bool active) external;

    /// @notice Says whether subscriptions of the plan may be extended. Independent of whether it is active.
    function setPlanRenewable(uint256 planId, bool renewable) external;

    /// @notice Stops or allows purchases. Subscriptions can be extended meanwhile.
    function setPurchasesPaused(bool paused) external;

    /// @notice Ends a subscription now and for good. Nothing is paid back.
    function cancelSubscription(uint256 subscriptionId) external;

    /// @notice Accepts `tokenAddress`, priced by a pair of it and `stablecoinAddress`. Usable PRICE_WINDOW later.
    /// @param pairAddress A Uniswap v2 pair of the two.
    function addPaymentMethod(address tokenAddress, address pairAddress, address stablecoinAddress)
        external
        returns (uint256 paymentMethodId);

    /// @notice Switches a payment method off or on; 1 too.
    function updatePaymentMethod(uint256 paymentMethodId, bool active) external;

    /// @notice Sends all the contract holds of a token to `to`, whether it is, was or never was a payment method.
    /// @param token address(0) for ether, which can be forced upon any contract.
    function withdrawFunds(address token, address to) external;

    /// @notice Sets the surcharge on payments priced by a pair.
    /// @param newSlippageBps Hundredths of a percent, at most 1000.
    function setSlippageBps(uint256 newSlippageBps) external;

    /// @notice Sets how much stablecoin a pair must hold to be a price.
    /// @param newMinLiquidityUsd Millionths of a dollar, whatever the stablecoin's decimals.
    function setMinLiquidity(uint256 newMinLiquidityUsd) external;

    // ---- Anyone's

    /// @notice Buys `days_` days of a plan for the caller, and pays calculatePayment(...) at once.
    /// @param days_ 1..MAX_DAYS.
    /// @param userEncrypted At most MAX_USER_ENCRYPTED bytes for the host; emitted, not kept.
    /// @dev Approve the payment first. Refused, in this order: PurchasesPaused, PlanNotFound, PlanNotActive,
    /// DaysMustBePositive, TooManyDays, UserEncryptedTooLong, PaymentMethodNotFound, PaymentMethodNotActive,
    /// InsufficientLiquidity, PriceNotReady, PaymentAboveMax, the token's own refusal, PaymentShort.
    function buySubscription(uint256 planId, uint256 days_, uint256 paymentMethodId, bytes calldata userEncrypted)
        external
        returns (uint256 subscriptionId);

    /// @notice buySubscription that pays at most `maxAmount`, whatever happens to plan or price meanwhile.
    function buySubscriptionWithMax(
        uint256 planId,
        uint256 days_,
        uint256 paymentMethodId,
        uint256 maxAmount,
        bytes calldata userEncrypted
    ) external returns (uint256 subscriptionId);

    /// @notice Adds `days_` days to a subscription of anyone, from its end or, if that is past, from now, at the plan's
    /// present price.
    /// @dev Refused, in this order: SubscriptionNotFound, SubscriptionAlreadyCancelled, PlanNotRenewable,
    /// DaysMustBePositive, TooManyDays, ExpiryTooFar, then as buySubscription from PaymentMethodNotFound on.
    function extendSubscription(uint256 subscriptionId, uint256 days_, uint256 paymentMethodId) external;

    /// @notice extendSubscription that pays at most `maxAmount`.
    function extendSubscriptionWithMax(
        uint256 subscriptionId,
        uint256 days_,
        uint256 paymentMethodId,
        uint256 maxAmount
    ) external;

    /// @notice Begins another period of a pair's average price, unless the present one is younger than PRICE_WINDOW.
    /// Every payment by the method does so too; call it when a method has not been used for long and its price moved.
    function updatePrice(uint256 paymentMethodId) external;

    // ---- Views

    /// @notice Whole days left; 0 if expired or cancelled.
    function daysRemaining(uint256 subscriptionId) external view returns (uint256);

    /// @param isActive Neither cancelled nor expired.
    function getSubscription(uint256 subscriptionId)
        external
        view
        returns (uint256 planId, address subscriber, uint256 expiresAt, bool isActive, bool cancelled);

    function getPlan(uint256 planId)
        external
        view
        returns (string memory name, uint256 pricePerDayUsdCents, bool active);

    function isPlanRenewable(uint256 planId) external view returns (bool);

    /// @notice Zero when unset.
    function getPrimaryStablecoin() external view returns (address);

    /// @notice 1 if set, then the others as they were added; inactive ones too.
    function getPaymentMethodIds() external view returns (uint256[] memory);

    /// @param pairAddress Zero for method 1, whose stablecoin is the token.
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
        );

    /// @notice Every token that is or ever was a payment method's, each once: where money of buyers may be.
    function getPaymentTokens() external view returns (address[] memory);

    /// @notice What a purchase or extension costs in the method's token. Does not ask whether plan and method are
    /// active, nor whether `days_` is allowed.
    function calculatePayment(uint256 planId, uint256 days_, uint256 paymentMethodId) external view returns (uint256);

    /// @notice What a pair gives for one token right now, in whole cents (rounded down); 100 for method 1. For display:
    /// anyone can move it for a moment, so no payment depends on it alone.
    function getTokenPriceUsdCents(uint256 paymentMethodId) external view returns (uint256);

    /// @notice What the average price of a method with a pair is taken over.
    /// @param since The average is over the time from then to now; 0 while there is none.
    /// @param nextUpdateAt From then on updatePrice begins another period.
    function getPriceWindow(uint256 paymentMethodId) external view returns (uint256 since, uint256 nextUpdateAt);

    function getTotalSubscriptionCount() external view returns (uint256);

    function getTotalPlanCount() external view returns (uint256);

    /// @notice Those of the subscriptions offset+1 .. offset+limit that are neither cancelled nor expired and expire
    /// within `withinSeconds`.
    /// @dev `offset` and `limit` count ids looked at, so the cost is that of `limit` (2,400 gas each), however many
    /// there are. To see all: raise offset by limit until it reaches getTotalSubscriptionCount().
    function getSubscriptionsExpiringSoon(uint256 withinSeconds, uint256 offset, uint256 limit)
        external
        view
        returns (uint256[] memory);

    /// @notice Those of the subscriptions offset+1 .. offset+limit that are expired and not cancelled. Pages as
    /// getSubscriptionsExpiringSoon does.
    function getExpiredSubscriptions(uint256 offset, uint256 limit) external view returns (uint256[] memory);

    /// @notice All that the wallet ever bought. Costs 700 gas each.
    function getSubscriptionsBySubscriber(address subscriber) external view returns (uint256[] memory);

    /// @notice False for an unknown id.
    function isSubscriptionActive(uint256 subscriptionId) external view returns (bool);

    /// @notice One word per id asked for, 0 if there is no such subscription. From the lowest bit: subscriber (160 bits),
    /// expiresAt (40), planId (16), block of the purchase (32, as the contract sees it: on Arbitrum that of L1), cancelled
    /// (1), plan active (1), plan renewable (1). About 2,600 gas each.
    function getSubscriptionRecords(uint256[] calldata subscriptionIds) external view returns (uint256[] memory records);
}
